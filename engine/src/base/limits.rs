//! Every bound in one place. Nothing here is ever zero, and zero never means unlimited.

/// Longest node or site name, in bytes (a DNS label).
pub const NAME_BYTES_MAX: usize = 63;
/// Longest path component, in bytes (`NAME_MAX` of Linux file systems).
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Deepest path, in components.
pub const PATH_DEPTH_MAX: usize = 256;
/// Longest target of a symbolic link, in bytes (`PATH_MAX`).
pub const LINK_BYTES_MAX: usize = 4096;

/// Bytes of one lease, and so the most content that moves in one run and the largest chunk.
pub const LEASE_BYTES: usize = 2 << 20;
/// Largest chunk.
pub const CHUNK_BYTES_MAX: usize = LEASE_BYTES;
/// Most pieces in one run: what one offer, one verdict and one data stream can speak of.
pub const RUN_PIECES_MAX: usize = 1024;
/// Files up to this length, in bytes, travel several to a run, and never as differences to an earlier version.
pub const SMALL_FILE_BYTES: u64 = 256 << 10;
/// Block of the tensor cutter, in bytes.
pub const TENSOR_BLOCK_BYTES: usize = 1 << 20;
/// Longest safetensors header that is parsed, in bytes.
pub const TENSOR_HEADER_BYTES_MAX: u64 = 64 << 20;

/// Largest control frame, in bytes.
pub const FRAME_BYTES_MAX: usize = 256 << 10;
/// Most entries in one frame.
pub const ENTRIES_PER_FRAME_MAX: usize = 1024;
/// Most entries between the scanner and the last one that is settled.
pub const ENTRY_WINDOW: usize = 8192;
/// Most objects of one snapshot (a `Seq` counts them).
pub const OBJECTS_MAX: u32 = u32::MAX - 1;
/// Largest object, in bytes: what a signed 64-bit file offset can reach.
pub const OBJECT_BYTES_MAX: u64 = i64::MAX as u64;

/// Most runs that are read, offered or under way at a source.
pub const RUNS_MAX: usize = 64;
/// Content that may be received and not yet durable before a commit is forced, in bytes.
pub const COMMIT_BYTES: u64 = 16 << 20;
/// Longest that received content waits for a commit, in milliseconds.
pub const COMMIT_MS: u64 = 200;
/// How often a source reads an object that keeps changing before it gives up on it.
pub const OBJECT_TRIES_MAX: u32 = 3;
/// How often a chunk may arrive wrong before its path is given up.
pub const CHUNK_TRIES_MAX: u32 = 3;

/// Default size of the slab, in bytes.
pub const SLAB_BYTES_DEFAULT: usize = 128 << 20;
