//! A TCP receiver: what it has got, and when it says so.

use weir_aqm::Nanos;

use crate::{Ecn, Packet, sender::Ack};

/// Linux's least delay of an acknowledgement (`TCP_DELACK_MIN`, `include/net/tcp.h` at v6.18; RFC 9293 section 3.8.6.3
/// allows 500 ms).
pub const DELAY_MAX: Nanos = Nanos::from_millis(40);
/// Packets acknowledged one by one at the start and after a gap (`TCP_MAX_QUICKACKS`, `net/ipv4/tcp_input.c` at v6.18).
/// After a gap they stand for the acknowledgements that a real receiver sends at once while the hole is open.
const QUICK: u32 = 16;

/// One connection's receiver.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// The highest ranges, the highest first. A gap is never filled, since a retransmission has a number of its own.
    ranges: [Option<(u64, u64)>; Ack::RANGES],
    packets: u64,
    marked: u64,
    /// Bytes that no acknowledgement covers yet, and when the first of them was sent.
    pending: Option<(u64, Nanos)>,
    largest: u32,
    quick: u32,
    /// Whether the last packet bore Congestion Experienced.
    congested: bool,
}

/// What to send now that a packet has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// For the packets before it, whose marks were others.
    pub earlier: Option<Ack>,
    /// For all; if `None`, one is due [`DELAY_MAX`] after the first packet that waits for it.
    pub now: Option<Ack>,
}

impl Receiver {
    /// Has got nothing.
    pub fn new() -> Self {
        Self {
            ranges: [None; Ack::RANGES],
            packets: 0,
            marked: 0,
            pending: None,
            largest: 0,
            quick: QUICK,
            congested: false,
        }
    }

    /// A packet has come; `last` if the stream is complete with it, which a FIN would tell.
    ///
    /// RFC 5681 section 4.2: at once for every second full packet and for one that leaves a gap. RFC 8257 section 3.2: where
    /// marks begin or end, at once for those before, so that an acknowledgement covers packets of one kind.
    pub fn on_packet(&mut self, packet: &Packet, last: bool) -> Answer {
        let congested = packet.ecn == Ecn::Ce;
        let changed = congested != self.congested;
        let earlier = if changed { self.acknowledge() } else { None };
        self.congested = congested;

        let gap = self.enter(packet.number);
        self.packets += 1;
        self.marked += u64::from(congested);
        self.largest = self.largest.max(packet.bytes);
        let (bytes, since) = self.pending.unwrap_or((0, packet.sent));
        let bytes = bytes + u64::from(packet.bytes);
        self.pending = Some((bytes, since));
        if gap {
            self.quick = QUICK;
        }
        // Linux (`__tcp_ack_snd_check`): more than one full packet.
        let enough = bytes > u64::from(self.largest);
        let at_once = enough || self.quick > 0 || changed || last;
        self.quick = self.quick.saturating_sub(1);
        Answer { earlier, now: if at_once { self.acknowledge() } else { None } }
    }

    /// The acknowledgement that is due; `None` if nothing waits for one.
    pub fn acknowledge(&mut self) -> Option<Ack> {
        let (_, sent) = self.pending.take()?;
        Some(Ack { received: self.ranges, packets: self.packets, marked: self.marked, sent })
    }

    /// Notes a number; whether it left a gap below it, or came late into one.
    fn enter(&mut self, number: u64) -> bool {
        let [newest, ..] = &mut self.ranges;
        match newest {
            Some((_, last)) if last.wrapping_add(1) == number => {
                *last = number;
                false
            }
            None => {
                *newest = Some((number, number));
                // Numbers begin at zero.
                number != 0
            }
            Some((_, last)) if *last < number => {
                self.ranges.rotate_right(1);
                let [first, ..] = &mut self.ranges;
                *first = Some((number, number));
                true
            }
            Some(_) => {
                self.enter_late(number);
                true
            }
        }
    }

    /// A packet that others overtook.
    fn enter_late(&mut self, number: u64) {
        let mut ranges: Vec<(u64, u64)> = self.ranges.iter().flatten().copied().collect();
        if ranges.iter().any(|&(first, last)| (first..=last).contains(&number)) {
            return;
        }
        let at = ranges.partition_point(|&(first, _)| first > number);
        ranges.insert(at, (number, number));
        // Highest first: a range may now begin right above the next one's end.
        ranges.dedup_by(|lower, upper| {
            let adjacent = lower.1 + 1 == upper.0;
            if adjacent {
                upper.0 = lower.0;
            }
            adjacent
        });
        let mut ranges = ranges.into_iter();
        self.ranges = std::array::from_fn(|_| ranges.next());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FlowId;

    fn packet(number: u64, ecn: Ecn) -> Packet {
        let sent = Nanos::from_millis(number);
        Packet {
            flow: FlowId(0),
            bytes: 1514,
            number,
            segment: 0,
            sent,
            host: 0,
            dscp: 0,
            service: crate::Service::default(),
            ecn,
        }
    }

    /// Gives it packets of these numbers, and tells which were answered at once.
    fn answered(receiver: &mut Receiver, numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut at_once = Vec::new();
        for number in numbers {
            if receiver.on_packet(&packet(number, Ecn::NotEct), false).now.is_some() {
                at_once.push(number);
            }
        }
        at_once
    }

    #[test]
    fn rfc_5681_section_4_2_every_second_full_packet_is_acknowledged() {
        let mut receiver = Receiver::new();
        assert_eq!(
            answered(&mut receiver, 0..16),
            (0..16).collect::<Vec<_>>(),
            "a connection starts quickly"
        );
        assert_eq!(answered(&mut receiver, 16..24), [17, 19, 21, 23]);
    }

    #[test]
    fn rfc_5681_section_4_2_a_gap_is_told_at_once() {
        let mut receiver = Receiver::new();
        answered(&mut receiver, 0..20);
        assert_eq!(answered(&mut receiver, [22]), [22]);
        assert_eq!(answered(&mut receiver, 23..38), (23..38).collect::<Vec<_>>());
        assert_eq!(answered(&mut receiver, 38..42), [39, 41]);
    }

    #[test]
    fn an_acknowledgement_tells_the_four_highest_ranges_and_the_age_of_its_oldest_packet() {
        let mut receiver = Receiver::new();
        answered(&mut receiver, (0..30).chain([31, 33, 34, 36]).chain(38..60));
        let first = receiver.on_packet(&packet(60, Ecn::NotEct), false).now;
        let second = receiver.on_packet(&packet(61, Ecn::NotEct), false).now;
        let ack = first.or(second).unwrap();
        assert_eq!(ack.received, [Some((38, ack.newest())), Some((36, 36)), Some((33, 34)), Some((31, 31))]);
        assert_eq!(ack.sent, Nanos::from_millis(ack.newest() - 1));
    }

    #[test]
    fn rfc_8257_section_3_2_a_change_of_marks_splits_the_acknowledgement() {
        let mut receiver = Receiver::new();
        answered(&mut receiver, 0..16);
        assert!(answered(&mut receiver, [16]).is_empty());
        let answer = receiver.on_packet(&packet(17, Ecn::Ce), false);
        let (earlier, now) = (answer.earlier.unwrap(), answer.now.unwrap());
        assert_eq!((earlier.packets, earlier.marked, earlier.newest()), (17, 0, 16));
        assert_eq!((now.packets, now.marked, now.newest()), (18, 1, 17));
    }

    #[test]
    fn the_end_of_a_stream_is_acknowledged_at_once_and_nothing_twice() {
        let mut receiver = Receiver::new();
        answered(&mut receiver, 0..16);
        assert!(receiver.on_packet(&packet(16, Ecn::NotEct), true).now.is_some());
        assert_eq!(receiver.acknowledge(), None);
    }

    #[test]
    fn packets_that_were_overtaken_join_the_ranges_around_them() {
        let mut receiver = Receiver::new();
        let told = |receiver: &mut Receiver, number| {
            let ack = receiver.on_packet(&packet(number, Ecn::NotEct), false).now.unwrap();
            ack.received.into_iter().flatten().collect::<Vec<_>>()
        };
        for number in [0, 1, 5, 9] {
            told(&mut receiver, number);
        }
        assert_eq!(told(&mut receiver, 7), [(9, 9), (7, 7), (5, 5), (0, 1)]);
        assert_eq!(told(&mut receiver, 8), [(7, 9), (5, 5), (0, 1)]);
        assert_eq!(told(&mut receiver, 6), [(5, 9), (0, 1)]);
        assert_eq!(told(&mut receiver, 6), [(5, 9), (0, 1)]);
    }
}
