//! Where a node keeps its things, and its options: file, environment and flags, checked together; and
//! the policy and roles that lie there.

mod border;
mod classes;
mod edit;
mod endpoint;
mod entries;
mod fields;
mod home;
mod links;
mod load;
mod mistake;
mod ports;
mod problems;
mod setting;
mod similar;

pub use border::{
    BorderError, change_roles, ground, read_policy, read_roles, refresh, roles_mark, take_roles,
};
pub use edit::{EditError, add_node, remove_node, set_limit};
pub use endpoint::{Endpoint, ParseEndpointError};
pub use entries::{Node, Site};
pub use fields::{
    BorderSection, CostSection, ENTRY_FIELDS, FIELDS, Field, IdentitySection, Limits, NodeSection,
    PORT_DEFAULT, QuicSection, RdmaSection, RetrySection, ServeSection, Settings, StorageSection,
};
pub use home::{Home, HomeError, ServeLock, ServeLockError, ServeRecord, write_private};
pub use links::{Budget, Link};
pub use load::{Config, Origin};
pub use mistake::{ConfigError, Mistake, Place};
pub use ports::{ParsePortNameError, PortName};
pub use problems::Topic;
pub use setting::{Backend, Compress, Congestion, Rule, Wrong};
pub use similar::similar;
