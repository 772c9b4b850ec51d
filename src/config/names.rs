//! What names things and has a rule of its own: devices, instances, VLANs.

use std::fmt;

use thiserror::Error;

/// The instance of a file that names none.
pub const DEFAULT_INSTANCE: &str = "default";

/// An 802.1Q VLAN identifier, 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

impl VlanId {
    /// `None` for 0 (priority tag), 4095 (reserved) and anything beyond 12 bits (IEEE 802.1Q table 9-2).
    pub fn new(id: i64) -> Option<Self> {
        u16::try_from(id).ok().filter(|id| (1..=4094).contains(id)).map(Self)
    }

    /// The identifier.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// Why a name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// A name of no characters.
    #[error("must not be empty")]
    Empty,
    /// Longer than the kernel or weir allows.
    #[error("must have at most {most} bytes, has {has}")]
    TooLong {
        /// The bound.
        most: usize,
        /// The name's length.
        has: usize,
    },
    /// `.` or `..`.
    #[error("must not be `.` or `..`")]
    Dots,
    /// A character that the name may not have.
    #[error("must not contain {found:?}")]
    Character {
        /// The first such character.
        found: char,
    },
}

/// A network device's name: 1 to 15 bytes, no `/`, `:` or white space (`dev_valid_name`, `net/core/dev.c` at v6.18).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName(String);

impl DeviceName {
    /// Checks a name. Whether such a device exists is not asked.
    ///
    /// # Errors
    ///
    /// The first rule the name breaks.
    pub fn new(name: &str) -> Result<Self, NameError> {
        /// `IFNAMSIZ` less the terminating zero.
        const MOST: usize = 15;
        let refused = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        match name {
            "" => Err(NameError::Empty),
            "." | ".." => Err(NameError::Dots),
            _ if name.len() > MOST => Err(NameError::TooLong { most: MOST, has: name.len() }),
            _ => match name.chars().find(|&c| refused(c)) {
                Some(found) => Err(NameError::Character { found }),
                None => Ok(Self(name.to_owned())),
            },
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An instance's name: 1 to 32 of `a-z`, `0-9`, `_` and `-`, because it becomes a directory of the BPF file system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceName(String);

impl InstanceName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// The first rule the name breaks.
    pub fn new(name: &str) -> Result<Self, NameError> {
        const MOST: usize = 32;
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        match name {
            "" => Err(NameError::Empty),
            _ if name.len() > MOST => Err(NameError::TooLong { most: MOST, has: name.len() }),
            _ => match name.chars().find(|&c| !allowed(c)) {
                Some(found) => Err(NameError::Character { found }),
                None => Ok(Self(name.to_owned())),
            },
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for InstanceName {
    fn default() -> Self {
        Self(DEFAULT_INSTANCE.to_owned())
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_obey_the_kernel() {
        assert!(DeviceName::new("lan0").is_ok());
        assert!(DeviceName::new("enp0s31f6.100").is_ok());
        assert_eq!(DeviceName::new(""), Err(NameError::Empty));
        assert_eq!(DeviceName::new(".."), Err(NameError::Dots));
        assert_eq!(DeviceName::new("a234567890123456"), Err(NameError::TooLong { most: 15, has: 16 }));
        for found in ['/', ':', ' ', '\n'] {
            assert_eq!(DeviceName::new(&format!("a{found}b")), Err(NameError::Character { found }));
        }
    }

    #[test]
    fn instance_names_cannot_leave_their_directory() {
        assert!(InstanceName::new("home-1_a").is_ok());
        for bad in ["", "..", "a/b", "Home", "a.b", &"x".repeat(33)] {
            assert!(InstanceName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn vlan_identifiers_exclude_the_two_reserved_ones() {
        for bad in [-1, 0, 4095, 4096, 65_537] {
            assert_eq!(VlanId::new(bad), None);
        }
        assert_eq!(VlanId::new(4094).map(VlanId::get), Some(4094));
    }
}
