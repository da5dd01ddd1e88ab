//! Policies that nodes have, and what each of them means, in plain Rust: the model's word, not that of
//! the code under test.

/// A policy of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Law {
    /// The one that counts where nobody wrote one.
    Ready,
    Open,
    Shut,
    /// Nothing above the second class moves, inside a site neither.
    Cleared,
    /// What leaves a private site for a public one is cleared, and an exporter moves it.
    Exporters,
    /// It cannot be read.
    Garbled,
}

/// What the model is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// The one who asks belongs to the site at one end.
    pub(super) at_an_end: bool,
    /// He is an exporter for the dataset, and that is not over.
    pub(super) exporter: bool,
    pub(super) revoked: bool,
    /// The content leaves a private site for a public one.
    pub(super) outward: bool,
    /// From 0; none of the four is above all.
    pub(super) class: u8,
}

pub(super) const CLASSES: [&str; 4] = ["public", "internal", "confidential", "restricted"];
/// The rank of a label that is none of the classes.
pub(super) const NO_CLASS: u8 = 4;

impl Law {
    pub(super) const ALL: [Self; 6] =
        [Self::Ready, Self::Open, Self::Shut, Self::Cleared, Self::Exporters, Self::Garbled];

    /// The policy's text; none for the ready one.
    pub(super) fn text(self) -> Option<&'static str> {
        match self {
            Self::Ready => None,
            Self::Open => Some("@id(\"open\")\npermit (principal, action, resource);\n"),
            Self::Shut => Some("@id(\"shut\")\nforbid (principal, action, resource);\n"),
            Self::Cleared => Some(
                "@id(\"cleared\")\npermit (principal, action, resource)\n\
                 when { resource.class in Class::\"internal\" };\n",
            ),
            Self::Exporters => Some(
                "@id(\"open\")\npermit (principal, action, resource);\n\
                 @id(\"exporters\")\nforbid (principal, action, resource)\n\
                 when { context.from.tier == Tier::\"private\" && context.to.tier == Tier::\"public\" }\n\
                 unless { principal in Role::\"exporter\" && resource.class in Class::\"internal\" };\n",
            ),
            Self::Garbled => Some("@id(\"open\")\npermit (principal, action, resource;\n"),
        }
    }

    /// Whether content may move by it.
    pub(super) fn permits(self, asked: Asked) -> bool {
        if asked.class >= NO_CLASS || asked.revoked {
            return false;
        }
        match self {
            Self::Ready => asked.at_an_end && !(asked.outward && asked.class > 0),
            Self::Open => true,
            Self::Shut | Self::Garbled => false,
            Self::Cleared => asked.class <= 1,
            Self::Exporters => !asked.outward || (asked.exporter && asked.class <= 1),
        }
    }
}
