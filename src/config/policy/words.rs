//! Names of code points and protocols.

/// Code points by name: RFC 2474 (CS), RFC 2597 (AF), RFC 3246 (EF), RFC 5865 (VA), RFC 8622 (LE).
const CODE_POINTS: [(&str, u8); 25] = [
    ("be", 0),
    ("cs0", 0),
    ("le", 1),
    ("cs1", 8),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("cs2", 16),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("cs3", 24),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("cs4", 32),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("cs5", 40),
    ("va", 44),
    ("ef", 46),
    ("cs6", 48),
    ("cs7", 56),
    ("df", 0),
];

/// Protocols by name, with the numbers of IANA's registry.
const PROTOCOLS: [(&str, u8); 13] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ospf", 89),
    ("sctp", 132),
];

/// The code point of a name, in any case.
pub fn code_point(name: &str) -> Option<u8> {
    find(&CODE_POINTS, name)
}

/// The protocol of a name, in any case.
pub fn protocol(name: &str) -> Option<u8> {
    find(&PROTOCOLS, name)
}

/// A code point as people read it: its name, or its number.
pub fn show_code_point(value: u8) -> String {
    show(&CODE_POINTS, value)
}

/// A protocol as people read it.
pub fn show_protocol(value: u8) -> String {
    show(&PROTOCOLS, value)
}

/// Whether a protocol begins with a source and a destination port.
pub fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 33 | 132)
}

fn find(words: &[(&str, u8)], name: &str) -> Option<u8> {
    let name = name.to_lowercase();
    words.iter().find(|(word, _)| *word == name).map(|(_, value)| *value)
}

fn show(words: &[(&str, u8)], value: u8) -> String {
    let word = words.iter().find(|(_, number)| *number == value);
    word.map_or_else(|| value.to_string(), |(word, _)| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assured_forwarding_follows_its_formula() {
        // RFC 2597 section 6: class x in the three upper bits, drop precedence y in the two below.
        for class in 1..=4_u8 {
            for precedence in 1..=3_u8 {
                assert_eq!(code_point(&format!("AF{class}{precedence}")), Some(class << 3 | precedence << 1));
            }
        }
        for class in 0..=7_u8 {
            assert_eq!(code_point(&format!("cs{class}")), Some(class << 3));
        }
        assert_eq!((code_point("EF"), code_point("le"), code_point("voice")), (Some(46), Some(1), None));
    }

    #[test]
    fn what_is_shown_reads_back() {
        for value in 0..64 {
            let shown = show_code_point(value);
            assert_eq!(code_point(&shown).or(shown.parse().ok()), Some(value));
        }
        assert_eq!(show_protocol(17), "udp");
        assert_eq!(show_protocol(200), "200");
    }
}
