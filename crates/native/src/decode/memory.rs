//! Memory for keys and values, in large pages of the system where it has them.
//!
//! A step of decoding walks over all keys and values in pieces of a few kilobytes, each in another small page of memory:
//! looking up where these pages are costs as much as reading them, above all in a virtual machine.

use core::ptr::NonNull;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};

/// Size and alignment of a large page (x86-64 and most of aarch64).
const LARGE_PAGE: usize = 2 << 20;

/// Numbers that never move and that threads write side by side.
pub(super) struct Slab {
    memory: NonNull<f32>,
    layout: Layout,
}

// SAFETY: it is memory behind a pointer; who may write what is the matter of its user.
unsafe impl Send for Slab {}

impl Slab {
    /// So many zeros (at least one).
    pub(super) fn new(numbers: usize) -> Self {
        let bytes = numbers.max(1) * size_of::<f32>();
        let align = if bytes >= LARGE_PAGE { LARGE_PAGE } else { 64 };
        let Ok(layout) = Layout::from_size_align(bytes.next_multiple_of(align), align) else {
            handle_alloc_error(Layout::new::<f32>())
        };
        // SAFETY: the size is not 0.
        let Some(memory) = NonNull::new(unsafe { alloc(layout) }.cast::<f32>()) else {
            handle_alloc_error(layout)
        };
        #[cfg(target_os = "linux")]
        if align == LARGE_PAGE {
            // SAFETY: whole pages that are ours; the advice does not change their content, and where it is not
            // taken, small pages do.
            unsafe { libc::madvise(memory.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        // SAFETY: just allocated; zero bytes are zeros.
        unsafe { memory.as_ptr().cast::<u8>().write_bytes(0, layout.size()) };
        Slab { memory, layout }
    }

    /// The first number.
    pub(super) fn pointer(&self) -> *mut f32 {
        self.memory.as_ptr()
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.memory.as_ptr().cast(), self.layout) };
    }
}
