//! Names and numbers that identify nodes, sites, transfers, objects and extents.

use std::fmt;
use std::str::FromStr;

use super::limits::NAME_BYTES_MAX;

/// A name was not 1 to 63 of the characters a-z, 0-9, `-`, `_` and `.`, starting with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a name is 1 to 63 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit")]
pub struct ParseNameError;

fn name_is_valid(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=NAME_BYTES_MAX).contains(&bytes.len())
        && plain(bytes[0])
        && bytes.iter().all(|&c| plain(c) || b"-_.".contains(&c))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if name_is_valid(text) { Ok(Self(text.to_owned())) } else { Err(ParseNameError) }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type! {
    /// The name of a node: a machine running Portway.
    NodeName
}

name_type! {
    /// The name of a site: nodes that share a private fabric.
    SiteName
}

name_type! {
    /// The name of a class: how far a dataset may go. Their order is a matter of configuration.
    Class
}

name_type! {
    /// The name of a jurisdiction: whose law holds where a site stands.
    Jurisdiction
}

/// Which side of the border a site is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Machines and fabric of one's own.
    Private,
    /// Rented machines behind an interconnect.
    Public,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "private",
            Self::Public => "public",
        })
    }
}

impl FromStr for Tier {
    type Err = ParseTierError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "private" => Ok(Self::Private),
            "public" => Ok(Self::Public),
            _ => Err(ParseTierError),
        }
    }
}

/// A tier is `private` or `public`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a tier is 'private' or 'public'")]
pub struct ParseTierError;

/// Names one transfer in the logs, metrics and records of both ends; kept across resumes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub u128);

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A transfer id is 32 hexadecimal digits; this text is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a transfer id is 32 hexadecimal digits")]
pub struct ParseTransferIdError;

impl FromStr for TransferId {
    type Err = ParseTransferIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 32 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(ParseTransferIdError);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| ParseTransferIdError)
    }
}

/// An object's place in the canonical order of its snapshot, from zero.
pub type Seq = u32;

/// Fingerprint of a source file's identity and times; an equal stamp from the same node means
/// that the file was not touched since. It says nothing about the content to anyone else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Stamp(pub [u8; 16]);

/// A byte range of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

impl Extent {
    /// One past the last byte, or `None` past the end of the number range.
    pub fn end(self) -> Option<u64> {
        self.offset.checked_add(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_a_path_or_a_shell_would_misread() {
        for good in ["a", "onprem", "gpu-01.rack_2", "0"] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", ".", "A", "a/b", "a b", "a:b", "\u{e4}", long.as_str()] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_transfer_id_survives_its_text_form() {
        let id = TransferId(7);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("+0000000000000000000000000000007".parse::<TransferId>().is_err());
    }
}
