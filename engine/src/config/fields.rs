//! The one table of fields: type, default, rule and words of each.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::ports::PortName;
use super::setting::{Backend, Compress, Congestion, Raw, Rule, Setting, Wrong};
use super::similar;
use crate::base::Class;
use crate::cost::Currency;
use crate::identity::NODE_VALIDITY_S;
use crate::policy::Classes;

/// The port that a node listens on unless told otherwise.
pub const PORT_DEFAULT: u16 = 7717;

/// One field of `portway.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its section: `limits`, or `nodes.NAME` for a field that every entry of a table has.
    pub section: &'static str,
    /// Its name, the unit last.
    pub name: &'static str,
    /// What it does, one sentence or two.
    pub doc: &'static str,
    /// What is allowed.
    pub rule: Rule,
}

impl Field {
    /// The environment variable that overrides it.
    pub fn variable(&self) -> String {
        format!("PORTWAY_{}_{}", self.section, self.name).to_uppercase()
    }
}

/// Fields of the tables that have an entry per name.
pub const ENTRY_FIELDS: &[Field] = &[
    Field {
        section: "nodes.NAME",
        name: "address",
        doc: "Where the node listens. Of several, the first that answers is used.",
        rule: Rule::Endpoints,
    },
    Field {
        section: "nodes.NAME",
        name: "site",
        doc: "The node's site. For people and for `plan`: what counts is the node's certificate.",
        rule: Rule::Site,
    },
    Field {
        section: "sites.NAME",
        name: "tier",
        doc: "The site's tier. For people: what counts is the certificate.",
        rule: Rule::Choice(&["private", "public"]),
    },
    Field {
        section: "sites.NAME",
        name: "jurisdiction",
        doc: "Whose law holds there, for policies that ask; `unknown` where it is not set.",
        rule: Rule::Jurisdiction,
    },
    Field {
        section: "links.NAME",
        name: "sites",
        doc: "The two sites that the link joins.",
        rule: Rule::SitePair,
    },
    Field {
        section: "links.NAME",
        name: "rate_mbps",
        doc: "Its rate. `plan` estimates with it until the path has been measured.",
        rule: Rule::Range { min: 1, max: 10_000_000, unit: "Mb/s" },
    },
    Field {
        section: "links.NAME",
        name: "limit_mbps",
        doc: "The most that this node sends over it, all transfers together. Transfers that run take \
              it up within a second; `portway limit` sets it.",
        rule: Rule::Range { min: 1, max: 10_000_000, unit: "Mb/s" },
    },
    Field {
        section: "links.NAME",
        name: "billing",
        doc: "What its provider bills: `volume`, bytes that were sent; `flat`, the link; `p95`, the rate \
              that is exceeded in a twentieth of the month. Not set, `volume`.",
        rule: Rule::Choice(&["volume", "flat", "p95"]),
    },
    Field {
        section: "links.NAME",
        name: "price_per_gb",
        doc: "What 10^9 bytes cost that this node sends over it, on the wire, in `cost.currency`.",
        rule: Rule::Amount,
    },
    Field {
        section: "links.NAME",
        name: "commit_mbps",
        doc: "The rate that is paid for whatever is sent, with billing `p95`.",
        rule: Rule::Range { min: 1, max: 10_000_000, unit: "Mb/s" },
    },
    Field {
        section: "links.NAME",
        name: "price_per_mbps",
        doc: "What a Mb/s of the billed rate costs a month, with billing `p95`.",
        rule: Rule::Amount,
    },
    Field {
        section: "links.NAME",
        name: "price_per_month",
        doc: "What the link costs a month, with billing `flat`.",
        rule: Rule::Amount,
    },
    Field {
        section: "links.NAME",
        name: "hours",
        doc: "When it may be used, UTC. Content that is under way when they end stops, resumably.",
        rule: Rule::Hours,
    },
    Field {
        section: "links.NAME",
        name: "address",
        doc: "Where nodes at the other end are reached over this link. Of several links with an address \
              of a node, the cheapest is taken that is open, or that meets `--deadline`.",
        rule: Rule::Addresses,
    },
    Field {
        section: "budgets.NAME",
        name: "amount",
        doc: "The most that may be spent, in `cost.currency`, on what this node sends to other sites.",
        rule: Rule::Amount,
    },
    Field {
        section: "budgets.NAME",
        name: "per",
        doc: "In which time, UTC; or for each transfer.",
        rule: Rule::Choice(&["month", "day", "transfer"]),
    },
    Field {
        section: "budgets.NAME",
        name: "identity",
        doc: "Only transfers that this identity asked for count.",
        rule: Rule::Identity,
    },
    Field {
        section: "budgets.NAME",
        name: "dataset",
        doc: "Only this path of the serving node, with what is below it, counts.",
        rule: Rule::Dataset,
    },
    Field {
        section: "budgets.NAME",
        name: "link",
        doc: "Only what takes this link counts.",
        rule: Rule::Link,
    },
];

macro_rules! sections {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $type:ident {
            $($(#[doc = $doc:literal])+ $field:ident: $kind:ty = $default:expr, $rule:expr;)+
        }
    )+) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $type {
                $($(#[doc = $doc])+ pub $field: $kind,)+
            }

            impl Default for $type {
                fn default() -> Self {
                    Self { $($field: $default,)+ }
                }
            }
        )+

        /// The fields that are there once each; every value is within its bounds.
        #[derive(Debug, Clone, PartialEq, Eq, Default)]
        pub struct Settings {
            $($(#[doc = $section_doc])+ pub $section: $type,)+
        }

        /// Every field of [`Settings`], in the order of the file.
        pub const FIELDS: &[Field] = &[$($(
            Field {
                section: stringify!($section),
                name: stringify!($field),
                doc: concat!($($doc),+).trim_ascii(),
                rule: $rule,
            },
        )+)+];

        impl Settings {
            /// Sets one field.
            pub(super) fn set(
                &mut self,
                section: &str,
                name: &str,
                raw: &Raw<'_>,
            ) -> Result<(), Wrong> {
                match (section, name) {
                    $($((stringify!($section), stringify!($field)) => {
                        self.$section.$field = Setting::read(raw, $rule)?;
                        Ok(())
                    })+)+
                    $((stringify!($section), _) => Err(Wrong::Unknown {
                        what: "field",
                        similar: similar(name, [$(stringify!($field)),+]),
                    }),)+
                    _ => Err(unknown_section(section)),
                }
            }

            /// One field as it is written in the file, or `None` if it is not set.
            pub fn toml(&self, field: &Field) -> Option<String> {
                match (field.section, field.name) {
                    $($((stringify!($section), stringify!($field)) => {
                        self.$section.$field.toml()
                    })+)+
                    _ => None,
                }
            }
        }
    };
}

/// Names of all sections, those with an entry per name last.
pub(super) fn section_names() -> Vec<&'static str> {
    let mut names: Vec<_> = FIELDS.iter().map(|field| field.section).collect();
    names.extend(["nodes", "sites", "links", "budgets"]);
    names.dedup();
    names
}

pub(super) fn unknown_section(section: &str) -> Wrong {
    Wrong::Unknown { what: "section", similar: similar(section, section_names()) }
}

const fn count(min: u64, max: u64) -> Rule {
    Rule::Range { min, max, unit: "" }
}

const fn mib(min: u64, max: u64) -> Rule {
    Rule::Range { min, max, unit: "MiB" }
}

const fn seconds(min: u64, max: u64) -> Rule {
    Rule::Range { min, max, unit: "s" }
}

sections! {
    /// Identity from an existing PKI; without it, `init` or `join` made one.
    node: NodeSection {
        /// Certificates (PEM) of the authorities that nodes are trusted from.
        ca: Option<PathBuf> = None, Rule::Path;
        /// This node's certificate chain (PEM), with a SPIFFE URI in the subject's alternative names.
        certificate: Option<PathBuf> = None, Rule::Path;
        /// The certificate's private key (PEM); nobody else may read the file.
        key: Option<PathBuf> = None, Rule::Path;
    }
    /// Bounds on memory and on what peers can occupy.
    limits: Limits {
        /// Memory for content under way, of all transfers together.
        slab_mib: u64 = 128, mib(16, 65_536);
        /// Content that a peer may send ahead of the reader, per session; by default no more than `slab_mib`.
        window_mib: u64 = 32, mib(8, 1024);
        /// Sessions that are served at a time.
        sessions_max: u64 = 64, count(1, 4096);
        /// Connections that are held at a time, whatever their state.
        connections_max: u64 = 256, count(1, 65_536);
        /// Handshakes that are worked on at a time.
        half_open_max: u64 = 256, count(1, 65_536);
        /// Handshakes under way above which newcomers must first prove their address.
        retry_above: u64 = 32, count(1, 65_536);
    }
    /// The QUIC transport.
    quic: QuicSection {
        /// Connections of a session; with two or more, the first carries control frames alone.
        connections: u64 = 2, count(1, 16);
        /// How the sending rate adapts to the path: bbr keeps it through random loss, cubic is fair to others, auto is cubic where the round trip is under 2 ms and bbr elsewhere.
        congestion: Congestion = Congestion::Auto, Rule::Choice(Congestion::WORDS);
        /// Largest UDP payload that is tried; smaller ones are found where the path needs them.
        mtu_max: u64 = 8952, Rule::Range { min: 1200, max: 65_507, unit: "bytes" };
        /// Silence after which a connection is dead.
        idle_s: u64 = 10, seconds(2, 600);
        /// Silence after which the peer is asked for a sign of life.
        keep_alive_s: u64 = 1, seconds(1, 300);
        /// Longest handshake, from the first packet; a trickling peer does not extend it.
        handshake_s: u64 = 5, seconds(1, 60);
        /// Whether the kernel may cut large sends into datagrams (UDP segmentation offload).
        gso: bool = true, Rule::Bool;
        /// Kernel buffer that is asked for, per socket and direction.
        socket_buffer_mib: u64 = 4, mib(1, 256);
    }
    /// The RDMA transport, between nodes of one private site.
    rdma: RdmaSection {
        /// Whether content goes by RDMA to and from nodes of this node's own private site, where both have it.
        enabled: bool = true, Rule::Bool;
        /// Ports that may be used, such as `mlx5_0` for a device or `mlx5_0/1` for one port of it; of an empty list, all that are usable. In a variable or flag, with commas between.
        devices: Vec<PortName> = Vec::new(), Rule::Ports;
        /// Queue pairs of each rail.
        queue_pairs: u64 = 2, count(1, 16);
        /// Whether content may cross the site's own fabric in plain text: RDMA does not encrypt. With false, QUIC carries it.
        plaintext: bool = true, Rule::Bool;
    }
    /// How content is moved.
    transfer: TransferSection {
        /// Whether content is made smaller on its way: auto does so where processors are idle and the link is what is waited for. What either end of a transfer forbids is not done.
        compress: Compress = Compress::Auto, Rule::Choice(Compress::WORDS);
    }
    /// Files.
    storage: StorageSection {
        /// How files are read and written: auto takes what was measured to be faster for cached files, the pool.
        backend: Backend = Backend::Auto, Rule::Choice(Backend::WORDS);
        /// Whether large writes go around the page cache (`O_DIRECT`) where the file system takes that: the receiver copies less, and what it wrote is not cached.
        direct: bool = false, Rule::Bool;
    }
    /// What `portway serve` does.
    serve: ServeSection {
        /// Where it listens (UDP).
        listen: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT_DEFAULT),
            Rule::Listen;
        /// The directory that it exports.
        root: Option<PathBuf> = None, Rule::Path;
        /// Where `/metrics` and `/healthz` answer (HTTP, no authentication: keep it local).
        admin: Option<SocketAddr> = Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)),
            Rule::ListenOrOff;
        /// Whether files that are under the root already are read once, to find their chunks again.
        index_scan: bool = true, Rule::Bool;
    }
    /// Classes of datasets, and the policy that decides what may be done with them.
    border: BorderSection {
        /// The classes, the lowest first. The lowest may go anywhere by the ready policy.
        classes: Vec<Class> = Classes::default().order().to_vec(), Rule::Classes;
        /// The class of a dataset without a label.
        default_class: Class = Classes::default().default_class().clone(), Rule::Class;
        /// The classes that RDMA moves, in plain text, inside a private site; if it is not set, all but the highest. In a variable or flag, with commas between.
        rdma_classes: Option<Vec<Class>> = None, Rule::Classes;
        /// The policy, in Cedar. If it is not set, `policy/policy.cedar` beside this file, and without one the ready policy.
        policy: Option<PathBuf> = None, Rule::Path;
    }
    /// Certificates and roles of the trust domain.
    identity: IdentitySection {
        /// How long the certificates are valid that the CA of this node signs (90 days). Each node renews its own when half of that has passed.
        lifetime_s: u64 = NODE_VALIDITY_S, seconds(10, 31_536_000);
        /// How often this node looks whether its certificate is due, and asks the nodes that it knows for newer roles.
        look_every_s: u64 = 20, seconds(1, 30);
    }
    /// Prices of links, and budgets.
    cost: CostSection {
        /// What `price_per_gb` of links and `amount` of budgets are in.
        currency: Currency = Currency::default(), Rule::Currency;
    }
    /// When a peer is away.
    retry: RetrySection {
        /// How long a transfer keeps trying to reconnect (72 hours).
        max_s: u64 = 259_200, seconds(1, 31_536_000);
    }
}
