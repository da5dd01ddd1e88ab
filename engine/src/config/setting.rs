//! How one value is read from the file, the environment or a flag, and what may be wrong with it.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest value that an error repeats, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A whole number.
    Range {
        /// Smallest value allowed.
        min: u64,
        /// Largest value allowed.
        max: u64,
        /// Its unit; empty for a count.
        unit: &'static str,
    },
    /// `true` or `false`.
    Bool,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A path; one in the file is relative to the file's directory.
    Path,
    /// `ADDR:PORT`; port 0 takes a free one.
    Listen,
    /// `ADDR:PORT`, or `off`.
    ListenOrOff,
    /// `HOST:PORT`, or a list of them.
    Endpoints,
    /// A list of `DEVICE` and `DEVICE/PORT`.
    Ports,
    /// A name of the section `[sites]`.
    Site,
    /// Two names of the section `[sites]`.
    SitePair,
    /// A name of the list `border.classes`.
    Class,
    /// A list of classes.
    Classes,
    /// The name of a jurisdiction.
    Jurisdiction,
    /// An amount of money.
    Amount,
    /// A currency.
    Currency,
    /// Hours of the day.
    Hours,
    /// An address for each of some nodes.
    Addresses,
    /// An identity.
    Identity,
    /// A path below the root.
    Dataset,
    /// A name of the section `[links]`.
    Link,
}

/// The rule in words: `16 to 65536 MiB`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { min, max, unit: "" } => write!(f, "{min} to {max}"),
            Self::Range { min, max, unit } => write!(f, "{min} to {max} {unit}"),
            Self::Bool => f.write_str("true or false"),
            Self::Choice(words) => f.write_str(&words.join(" or ")),
            Self::Path => f.write_str("a path"),
            Self::Listen => f.write_str("ADDR:PORT"),
            Self::ListenOrOff => f.write_str("ADDR:PORT or off"),
            Self::Endpoints => f.write_str("HOST:PORT or a list of them"),
            Self::Ports => f.write_str("a list of DEVICE or DEVICE/PORT"),
            Self::Site => f.write_str("a name of [sites]"),
            Self::SitePair => f.write_str("two names of [sites]"),
            Self::Class => f.write_str("one of border.classes"),
            Self::Classes => f.write_str("a list of classes"),
            Self::Jurisdiction => f.write_str("a name such as de or us-ca"),
            Self::Amount => f.write_str("an amount such as 0.09"),
            Self::Currency => f.write_str("three letters such as USD"),
            Self::Hours => f.write_str("hours of the day in UTC such as 22:00-06:00"),
            Self::Addresses => f.write_str("a table such as { cloud = \"10.0.0.2:7717\" }"),
            Self::Identity => f.write_str("a SPIFFE id"),
            Self::Dataset => f.write_str("a path below the root of this node"),
            Self::Link => f.write_str("a name of [links]"),
        }
    }
}

/// What is wrong with one value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// No such field, section or variable.
    #[error("no such {what}{}", did_you_mean(similar))]
    Unknown {
        /// `field`, `section` or `variable`.
        what: &'static str,
        /// Known ones that look like it.
        similar: Vec<String>,
    },
    /// A value that the rule does not allow.
    #[error("{value} is not {rule}")]
    Value {
        /// What was given.
        value: String,
        /// What is allowed.
        rule: Rule,
    },
    /// A section where a value was expected, or the other way round.
    #[error("must be a {wanted}")]
    Shape {
        /// What belongs there.
        wanted: &'static str,
    },
    /// A site that `[sites]` does not have.
    #[error("[sites] has no {site:?}{}", did_you_mean(similar))]
    UnknownSite {
        /// The name.
        site: String,
        /// Known ones that look like it.
        similar: Vec<String>,
    },
    /// A link that `[links]` does not have.
    #[error("[links] has no {link:?}{}", did_you_mean(similar))]
    UnknownLink {
        /// The name.
        link: String,
        /// Known ones that look like it.
        similar: Vec<String>,
    },
    /// A field of links that are billed in another way.
    #[error("is for links with billing = {:?} only", needs.as_str())]
    Billing {
        /// The way.
        needs: crate::cost::Billing,
    },
    /// A name that is not a name.
    #[error(transparent)]
    Name(#[from] crate::base::ParseNameError),
    /// A field that the others need is missing.
    #[error("is missing; {because}")]
    Missing {
        /// Why it must be there.
        because: &'static str,
    },
    /// Two values do not go together.
    #[error("must be {relation}, which is {bound}")]
    Relation {
        /// The relation, with the other field's name.
        relation: &'static str,
        /// The bound that follows.
        bound: u64,
    },
    /// The classes are no order.
    #[error(transparent)]
    Classes(#[from] crate::policy::ClassesError),
    /// The file is not TOML.
    #[error("{detail}")]
    Syntax {
        /// The parser's words.
        detail: String,
    },
}

fn did_you_mean(similar: &[String]) -> String {
    if similar.is_empty() {
        String::new()
    } else {
        format!(" (did you mean {}?)", similar.join(" or "))
    }
}

/// A value before it is checked.
#[derive(Debug, Clone)]
pub(super) enum Raw<'a> {
    /// From the environment or a flag: text for every kind.
    Typed(&'a str),
    /// From the file.
    Toml {
        /// The value.
        value: &'a toml_edit::Value,
        /// The file's directory, for relative paths.
        dir: &'a Path,
    },
}

impl Raw<'_> {
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Typed(text) => format!("{text:?}"),
            Self::Toml { value, .. } => {
                let text = value.to_string();
                match text.trim().char_indices().nth(SHOWN_CHARS_MAX) {
                    Some((end, _)) => format!("{}...", &text.trim()[..end]),
                    None => text.trim().to_owned(),
                }
            }
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Typed(text) => Some(text),
            Self::Toml { value, .. } => value.as_str(),
        }
    }

    pub(super) fn wrong(&self, rule: Rule) -> Wrong {
        Wrong::Value { value: self.shown(), rule }
    }

    fn parsed<T: FromStr>(&self, rule: Rule) -> Result<T, Wrong> {
        self.text().and_then(|text| text.parse().ok()).ok_or_else(|| self.wrong(rule))
    }
}

/// A kind of value that a field can have.
pub(super) trait Setting: Sized {
    /// Reads and checks a value.
    fn read(raw: &Raw<'_>, rule: Rule) -> Result<Self, Wrong>;
    /// The value as it is written in the file, or `None` if it is not set.
    fn toml(&self) -> Option<String>;
}

impl Setting for u64 {
    fn read(raw: &Raw<'_>, rule: Rule) -> Result<Self, Wrong> {
        let number = match raw {
            Raw::Typed(text) => text.parse().ok(),
            Raw::Toml { value, .. } => value.as_integer().and_then(|n| Self::try_from(n).ok()),
        };
        let allowed = |n: &Self| match rule {
            Rule::Range { min, max, .. } => (min..=max).contains(n),
            _ => true,
        };
        number.filter(allowed).ok_or_else(|| raw.wrong(rule))
    }

    fn toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for bool {
    fn read(raw: &Raw<'_>, rule: Rule) -> Result<Self, Wrong> {
        match raw {
            Raw::Typed(_) => raw.parsed(rule),
            Raw::Toml { value, .. } => value.as_bool().ok_or_else(|| raw.wrong(rule)),
        }
    }

    fn toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for Option<PathBuf> {
    fn read(raw: &Raw<'_>, rule: Rule) -> Result<Self, Wrong> {
        let text = raw.text().filter(|text| !text.is_empty() && !text.contains('\0'));
        let text = text.ok_or_else(|| raw.wrong(rule))?;
        Ok(Some(match raw {
            Raw::Typed(_) => PathBuf::from(text),
            Raw::Toml { dir, .. } => dir.join(text),
        }))
    }

    fn toml(&self) -> Option<String> {
        self.as_ref().map(|path| quoted(&path.to_string_lossy()))
    }
}

impl Setting for SocketAddr {
    fn read(raw: &Raw<'_>, rule: Rule) -> Result<Self, Wrong> {
        raw.parsed(rule)
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

/// An address, or `off`.
impl Setting for Option<SocketAddr> {
    fn read(raw: &Raw<'_>, rule: Rule) -> Result<Self, Wrong> {
        if raw.text() == Some("off") { Ok(None) } else { raw.parsed(rule).map(Some) }
    }

    fn toml(&self) -> Option<String> {
        Some(self.map_or_else(|| quoted("off"), |address| quoted(&address.to_string())))
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$word_doc])* $variant,)+ }

        impl $name {
            /// The words that are allowed.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for this choice.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl Setting for $name {
            fn read(raw: &Raw<'_>, rule: Rule) -> Result<Self, Wrong> {
                match raw.text() {
                    $(Some($word) => Ok(Self::$variant),)+
                    _ => Err(raw.wrong(rule)),
                }
            }

            fn toml(&self) -> Option<String> {
                Some(quoted(self.as_str()))
            }
        }
    };
}

choice! {
    /// Congestion control of what this node sends.
    Congestion {
        /// `cubic` where the round trip is under 2 ms, else `bbr`.
        Auto = "auto",
        /// Model-based: keeps its rate through random loss.
        Bbr = "bbr",
        /// Loss-based (RFC 9438): fair to others.
        Cubic = "cubic",
    }
}

choice! {
    /// Whether content is made smaller on its way.
    Compress {
        /// Where processors are idle and the link is what is waited for.
        Auto = "auto",
        /// Whatever can be made smaller.
        Always = "always",
        /// Nothing.
        Never = "never",
    }
}

choice! {
    /// How files are read and written.
    Backend {
        /// Whichever was measured to be faster for cached files: `pool`.
        Auto = "auto",
        /// Threads that call `pread` and `pwrite`.
        Pool = "pool",
        /// `io_uring`; an error where the kernel refuses it.
        Uring = "uring",
    }
}

/// A TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}
