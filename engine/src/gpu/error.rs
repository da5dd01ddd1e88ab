//! What can be wrong with a GPU, in words, and what helps.

/// No GPU was found by a driver that works (`CUDA_ERROR_NO_DEVICE`; numbers from `cuda.h`).
pub(super) const NO_DEVICE: u32 = 100;
/// What was asked of an event is not over yet (`CUDA_ERROR_NOT_READY`).
pub(super) const NOT_READY: u32 = 600;

/// What helps against what only the kernel module can explain.
const XID: &str = "check nvidia-smi and the kernel's log for Xid errors";

/// Why something about a GPU failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// The driver library is not on this machine, or does not load.
    #[error("{library} cannot be opened: {why}")]
    NoLibrary {
        /// Its file name.
        library: String,
        /// What the loader says.
        why: String,
    },
    /// The driver library lacks something that is needed.
    #[error("{library} is too old: it lacks {function}")]
    TooOld {
        /// Its file name.
        library: String,
        /// The first function that is missing.
        function: &'static str,
    },
    /// A call failed.
    #[error("{call}: {words} (CUDA error {code})")]
    Driver {
        /// The function of the CUDA driver API.
        call: &'static str,
        /// `CUresult`.
        code: u32,
        /// What the driver says about the code.
        words: String,
    },
    /// There are fewer GPUs.
    #[error("there is no GPU {index}: this machine has {count}")]
    NoSuchGpu {
        /// The number that was asked for, from 0.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A part is not within the memory that it is to be a part of.
    #[error("{len} bytes at {at} are not within device memory of {whole} bytes")]
    OutOfRange {
        /// First byte.
        at: usize,
        /// Bytes.
        len: usize,
        /// Bytes of the whole.
        whole: usize,
    },
    /// An address that is not memory of a device, or not all within one allocation.
    #[error("{len} bytes at {address:#x} are not memory of one allocation of a GPU")]
    NotDeviceMemory {
        /// First byte.
        address: u64,
        /// Bytes.
        len: usize,
    },
    /// Memory of one GPU was given to what works for another.
    #[error("the memory is of another GPU")]
    OtherGpu,
    /// The memory was lost when the copy failed.
    #[error("the copy had failed before, and its memory is lost")]
    Lost,
    /// Content that is to be copied is not what its digest says. Nothing was copied.
    #[error("piece {place} does not have its digest; nothing was copied to the device")]
    Altered {
        /// Its place among the pieces, from 0.
        place: usize,
    },
    /// Content and the memory that it is for differ in size. Nothing was copied.
    #[error("{content} bytes of content for {room} bytes of device memory")]
    WrongSize {
        /// Bytes of content, or of the lease.
        content: usize,
        /// Bytes of device memory.
        room: usize,
    },
}

impl GpuError {
    /// What helps.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::NoLibrary { .. } => {
                "install the NVIDIA driver; in a container, give it the GPU (--gpus all)"
            }
            Self::TooOld { .. } => "install NVIDIA's driver 515 (CUDA 11.7) or later",
            Self::Driver { code, .. } => match code {
                // Out of memory.
                2 => "free device memory, or allow more memory to be locked: ulimit -l",
                // Not initialised, unknown.
                3 | 999 => "load the kernel modules and make /dev/nvidia*: nvidia-modprobe -u -c 0",
                // Stub library.
                34 => "the library is the stub of the CUDA toolkit: take it out of the search path",
                // No device, invalid device.
                100 | 101 => "check nvidia-smi and CUDA_VISIBLE_DEVICES",
                // Driver mismatch, no compatibility with this device.
                803 | 804 => "the library and the kernel module differ in version: reboot",
                _ => XID,
            },
            Self::Lost => XID,
            Self::NoSuchGpu { .. } => "check nvidia-smi and CUDA_VISIBLE_DEVICES",
            Self::Altered { .. } => "ask for the content again",
            Self::OutOfRange { .. }
            | Self::NotDeviceMemory { .. }
            | Self::OtherGpu
            | Self::WrongSize { .. } => "this is a mistake of the program",
        }
    }

    /// Whether there is just no GPU here: nothing is broken.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NoLibrary { .. } | Self::Driver { code: NO_DEVICE, .. })
    }
}
