//! The CUDA driver library, opened at run time: a node without it runs all the same.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, OnceLock};

use super::error::GpuError;
use super::pin::Registered;

/// The library's name, with the version of its interface.
const NAME: &str = "libcuda.so.1";

/// Declares the entry points: a field each, found by its name. Those after `optional` are `None`
/// in older libraries.
macro_rules! entry_points {
    (
        needed { $($name:ident: fn($($argument:ty),*);)* }
        optional { $($extra:ident: fn($($given:ty),*);)* }
    ) => {
        /// Functions of the library; each answers with a `CUresult`. Names with `_v2` are what
        /// `cuda.h` calls by the name without it.
        #[expect(non_snake_case, reason = "names of the library")]
        pub(super) struct Entries {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) -> c_uint,)*
            $(pub(super) $extra: Option<unsafe extern "C" fn($($given),*) -> c_uint>,)*
        }

        impl Entries {
            fn find(library: &libloading::Library) -> Result<Self, &'static str> {
                Ok(Self {
                    $($name: {
                        let name = concat!(stringify!($name), "\0");
                        // SAFETY: the function has this type in `cuda.h`; a name never changes
                        // its type: changed functions get a new suffix.
                        let found = unsafe { library.get(name.as_bytes()) };
                        *found.map_err(|_| stringify!($name))?
                    },)*
                    $($extra: {
                        let name = concat!(stringify!($extra), "\0");
                        // SAFETY: as above.
                        let found = unsafe { library.get(name.as_bytes()) };
                        found.ok().map(|found| *found)
                    },)*
                })
            }
        }
    };
}

entry_points! {
    needed {
        cuInit: fn(c_uint);
        cuGetErrorString: fn(c_uint, *mut *const c_char);
        cuDriverGetVersion: fn(*mut c_int);
        cuDeviceGetCount: fn(*mut c_int);
        cuDeviceGet: fn(*mut c_int, c_int);
        cuDeviceGetName: fn(*mut c_char, c_int, c_int);
        cuDeviceTotalMem_v2: fn(*mut usize, c_int);
        cuDeviceGetAttribute: fn(*mut c_int, c_int, c_int);
        cuDevicePrimaryCtxRetain: fn(*mut *mut c_void, c_int);
        cuDevicePrimaryCtxRelease_v2: fn(c_int);
        cuCtxPushCurrent_v2: fn(*mut c_void);
        cuCtxPopCurrent_v2: fn(*mut *mut c_void);
        cuMemAlloc_v2: fn(*mut u64, usize);
        cuMemFree_v2: fn(u64);
        cuMemGetAddressRange_v2: fn(*mut u64, *mut usize, u64);
        cuPointerGetAttribute: fn(*mut c_void, c_int, u64);
        cuPointerSetAttribute: fn(*const c_void, c_int, u64);
        cuMemHostRegister_v2: fn(*mut c_void, usize, c_uint);
        cuMemHostUnregister: fn(*mut c_void);
        cuMemcpyHtoDAsync_v2: fn(u64, *const c_void, usize, *mut c_void);
        cuMemcpyDtoHAsync_v2: fn(*mut c_void, u64, usize, *mut c_void);
        cuStreamCreate: fn(*mut *mut c_void, c_uint);
        cuStreamDestroy_v2: fn(*mut c_void);
        cuStreamSynchronize: fn(*mut c_void);
        cuEventCreate: fn(*mut *mut c_void, c_uint);
        cuEventRecord: fn(*mut c_void, *mut c_void);
        cuEventQuery: fn(*mut c_void);
        cuEventSynchronize: fn(*mut c_void);
        cuEventDestroy_v2: fn(*mut c_void);
    }
    // Needs CUDA 11.7, the driver 515.
    optional {
        cuMemGetHandleForAddressRange: fn(*mut c_void, u64, usize, c_int, c_ulonglong);
    }
}

/// The library, ready for use.
pub(super) struct Driver {
    pub(super) entries: Entries,
    /// Host memory that is registered with it.
    pub(super) registered: Mutex<Vec<Registered>>,
}

impl Driver {
    /// The library of this machine, opened and initialised once and then for good.
    pub(super) fn load() -> Result<Arc<Self>, GpuError> {
        static DRIVER: OnceLock<Result<Arc<Driver>, GpuError>> = OnceLock::new();
        DRIVER.get_or_init(|| Self::open(Path::new(NAME))).clone()
    }

    /// Opens and initialises a library that is CUDA's.
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, GpuError> {
        let name = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // SAFETY: the initialisers of libcuda touch nothing of this program.
        let library = unsafe { libloading::Library::new(path) }
            .map_err(|error| GpuError::NoLibrary { library: name(), why: error.to_string() })?;
        let entries = Entries::find(&library)
            .map_err(|function| GpuError::TooOld { library: name(), function })?;
        // It has threads of its own, and does not bear being unloaded.
        std::mem::forget(library);
        let driver = Self { entries, registered: Mutex::new(Vec::new()) };
        // SAFETY: the flags must be 0.
        let code = unsafe { (driver.entries.cuInit)(0) };
        driver.check("cuInit", code)?;
        Ok(Arc::new(driver))
    }

    /// What a `CUresult` means.
    pub(super) fn check(&self, call: &'static str, code: c_uint) -> Result<(), GpuError> {
        if code == 0 { Ok(()) } else { Err(self.error(call, code)) }
    }

    fn error(&self, call: &'static str, code: c_uint) -> GpuError {
        let mut words = std::ptr::null();
        // SAFETY: the pointer is to a pointer that outlives the call; any code may be asked about.
        let known = unsafe { (self.entries.cuGetErrorString)(code, &raw mut words) } == 0;
        let words = if known && !words.is_null() {
            // SAFETY: for a known code it is a string of the library's, which is never unloaded.
            unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned()
        } else {
            "unknown error".to_owned()
        };
        GpuError::Driver { call, code, words }
    }
}

/// A pointer to something that the library made and that its owner here destroys.
#[derive(Clone, Copy)]
pub(super) struct Handle(NonNull<c_void>);

impl Handle {
    /// What a call that succeeded left in `raw`.
    pub(super) fn new(call: &'static str, raw: *mut c_void) -> Result<Self, GpuError> {
        let nothing = || GpuError::Driver { call, code: 0, words: "gave nothing".to_owned() };
        NonNull::new(raw).map(Self).ok_or_else(nothing)
    }

    /// The pointer.
    pub(super) fn raw(self) -> *mut c_void {
        self.0.as_ptr()
    }
}

// SAFETY: contexts, streams and events may be used and destroyed by any thread; the library locks
// what they share.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}
