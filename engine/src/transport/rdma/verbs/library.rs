//! The C library `libibverbs`, opened at run time: a node without it runs all the same.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr::NonNull;
use std::sync::OnceLock;

use rdma_sys::{
    ibv_async_event, ibv_comp_channel, ibv_context, ibv_cq, ibv_device, ibv_device_attr, ibv_gid,
    ibv_mr, ibv_pd, ibv_port_attr, ibv_qp, ibv_qp_attr, ibv_qp_init_attr,
};

use crate::transport::rdma::sysfs::Remark;

/// The library's name, with the version of its interface.
const NAME: &str = "libibverbs.so.1";

/// Declares the entry points: a field each, found by its name. The optional ones are `None` in older
/// libraries.
macro_rules! entry_points {
    (
        needed { $($name:ident: fn($($argument:ty),*) $(-> $answer:ty)?;)* }
        optional { $($extra:ident: fn($($given:ty),*) -> $result:ty;)* }
    ) => {
        /// Functions of the library. The others of verbs are inline in C: they go through the
        /// table that each device has.
        pub(super) struct Library {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $answer)?,)*
            $(pub(super) $extra: Option<unsafe extern "C" fn($($given),*) -> $result>,)*
        }

        impl Library {
            fn find(library: &libloading::Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    $($name: {
                        let name = concat!(stringify!($name), "\0");
                        // SAFETY: the function has this type in `infiniband/verbs.h`, whose
                        // interface has been the same since version 1 of the library.
                        let found = unsafe { library.get(name.as_bytes()) };
                        *found?
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
        ibv_get_device_list: fn(*mut c_int) -> *mut *mut ibv_device;
        ibv_free_device_list: fn(*mut *mut ibv_device);
        ibv_get_device_name: fn(*mut ibv_device) -> *const c_char;
        ibv_open_device: fn(*mut ibv_device) -> *mut ibv_context;
        ibv_close_device: fn(*mut ibv_context) -> c_int;
        ibv_query_device: fn(*mut ibv_context, *mut ibv_device_attr) -> c_int;
        // Writes no more than the beginning of the structure: what version 1.1 of it had.
        ibv_query_port: fn(*mut ibv_context, u8, *mut ibv_port_attr) -> c_int;
        ibv_query_gid: fn(*mut ibv_context, u8, c_int, *mut ibv_gid) -> c_int;
        ibv_get_async_event: fn(*mut ibv_context, *mut ibv_async_event) -> c_int;
        ibv_ack_async_event: fn(*mut ibv_async_event);
        ibv_alloc_pd: fn(*mut ibv_context) -> *mut ibv_pd;
        ibv_dealloc_pd: fn(*mut ibv_pd) -> c_int;
        ibv_reg_mr: fn(*mut ibv_pd, *mut c_void, usize, c_int) -> *mut ibv_mr;
        ibv_dereg_mr: fn(*mut ibv_mr) -> c_int;
        ibv_create_comp_channel: fn(*mut ibv_context) -> *mut ibv_comp_channel;
        ibv_destroy_comp_channel: fn(*mut ibv_comp_channel) -> c_int;
        ibv_create_cq: fn(
            *mut ibv_context, c_int, *mut c_void, *mut ibv_comp_channel, c_int
        ) -> *mut ibv_cq;
        ibv_destroy_cq: fn(*mut ibv_cq) -> c_int;
        ibv_get_cq_event: fn(*mut ibv_comp_channel, *mut *mut ibv_cq, *mut *mut c_void) -> c_int;
        ibv_ack_cq_events: fn(*mut ibv_cq, c_uint);
        ibv_create_qp: fn(*mut ibv_pd, *mut ibv_qp_init_attr) -> *mut ibv_qp;
        ibv_modify_qp: fn(*mut ibv_qp, *mut ibv_qp_attr, c_int) -> c_int;
        ibv_destroy_qp: fn(*mut ibv_qp) -> c_int;
    }
    optional {
        // Since rdma-core 34.
        ibv_reg_dmabuf_mr: fn(*mut ibv_pd, u64, usize, u64, c_int, c_int) -> *mut ibv_mr;
    }
}

impl Library {
    /// The library, opened once and then for good: its providers do not bear being unloaded.
    pub(super) fn load() -> Result<&'static Self, Remark> {
        static LIBRARY: OnceLock<Result<Library, Remark>> = OnceLock::new();
        LIBRARY.get_or_init(Self::open).as_ref().map_err(Clone::clone)
    }

    fn open() -> Result<Self, Remark> {
        // SAFETY: the initialisers of libibverbs touch nothing of this program.
        let library = unsafe { libloading::Library::new(NAME) }.map_err(|error| {
            Remark::new(
                format!("{NAME} cannot be opened: {error}"),
                "apt-get install libibverbs1 ibverbs-providers, or the packages of rdma-core",
            )
        })?;
        let found = Self::find(&library).map_err(|error| {
            Remark::new(
                format!("{NAME} lacks a function: {error}"),
                "install libibverbs of rdma-core 22 or later",
            )
        })?;
        std::mem::forget(library);
        Ok(found)
    }
}

/// A pointer to something that the library made and that its owner here destroys.
pub(super) struct Handle<T>(NonNull<T>);

impl<T> Handle<T> {
    /// `None` for null, which is how the library says that it failed.
    pub(super) fn new(raw: *mut T) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    /// The pointer.
    pub(super) fn raw(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

// SAFETY: everything of libibverbs may be used and destroyed by any thread (its functions lock
// what they share), and fields are read only that do not change after creation.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Handle<T> {}

/// C structures that may be all zero bytes.
///
/// # Safety
/// All zero bytes are a value of the type.
pub(super) unsafe trait Plain: Sized {
    /// All zero bytes.
    fn zeroed() -> Self {
        // SAFETY: that is what the implementation says.
        unsafe { std::mem::zeroed() }
    }
}
