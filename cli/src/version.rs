//! What this build is.

/// The number alone.
pub(crate) const SHORT: &str = env!("CARGO_PKG_VERSION");

/// Ways that this build can move bytes.
pub(crate) const TRANSPORTS: &[&str] =
    if cfg!(feature = "rdma") { &["quic", "rdma"] } else { &["quic"] };

/// Ways that this build can read and write files; which one runs is decided on the machine.
pub(crate) const STORAGE: &[&str] =
    if cfg!(target_os = "linux") { &["uring", "pool"] } else { &["pool"] };

/// Whether RDMA was built in.
#[cfg(feature = "rdma")]
macro_rules! rdma {
    () => {
        "+rdma"
    };
}
#[cfg(not(feature = "rdma"))]
macro_rules! rdma {
    () => {
        "without rdma"
    };
}

/// The number and what the build can use, as `--version` prints it.
pub(crate) const LONG: &str = if cfg!(target_os = "linux") {
    concat!(
        env!("CARGO_PKG_VERSION"),
        "\ntransports: quic (congestion: auto, bbr, cubic; UDP segmentation offload), ",
        rdma!(),
        "\nstorage: uring, pool"
    )
} else {
    concat!(
        env!("CARGO_PKG_VERSION"),
        "\ntransports: quic (congestion: auto, bbr, cubic), ",
        rdma!(),
        "\nstorage: pool"
    )
};
