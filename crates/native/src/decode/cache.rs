//! Pages of keys and values: 16 positions of one sequence, all layers and heads.
//!
//! Several sequences may share a page (the whole pages of a common prefix); the pool counts who uses it. Memory is
//! taken in slabs that never move, and kept for the next batch.

use super::kernel::PAGE;
use super::memory::Slab;

/// Pages of one slab.
const SLAB_PAGES: usize = 32;

/// Name of a page.
pub(super) type PageId = u32;

/// All pages.
pub(super) struct PagePool {
    slabs: Vec<Slab>,
    page_numbers: usize,
    users: Vec<u32>,
    free: Vec<PageId>,
}

// SAFETY: threads of a pass write pages of their own sequences, or columns of their own heads.
unsafe impl Sync for PagePool {}

impl PagePool {
    pub(super) fn new(page_numbers: usize) -> Self {
        PagePool { slabs: Vec::new(), page_numbers, users: Vec::new(), free: Vec::new() }
    }

    /// A page with one user. Its content is what its last user left.
    pub(super) fn take(&mut self) -> PageId {
        if self.free.is_empty() {
            let first = self.users.len() as PageId;
            self.slabs.push(Slab::new(SLAB_PAGES * self.page_numbers));
            self.users.extend([0; SLAB_PAGES]);
            self.free.extend((first..first + SLAB_PAGES as PageId).rev());
        }
        let page = self.free.pop().unwrap_or_default();
        self.users[page as usize] = 1;
        page
    }

    /// One more user.
    pub(super) fn share(&mut self, page: PageId) {
        self.users[page as usize] += 1;
    }

    /// One user less; the last one frees the page.
    pub(super) fn release(&mut self, page: PageId) {
        self.users[page as usize] -= 1;
        if self.users[page as usize] == 0 {
            self.free.push(page);
        }
    }

    /// A new page with the content of another.
    pub(super) fn copy(&mut self, from: PageId) -> PageId {
        let to = self.take();
        let (from, to_pointer) = (self.pointer(from), self.pointer(to));
        // SAFETY: two different pages of `page_numbers` each; `&mut self` keeps others away.
        unsafe { core::ptr::copy_nonoverlapping(from.cast_const(), to_pointer, self.page_numbers) };
        to
    }

    /// Where a page is.
    pub(super) fn pointer(&self, page: PageId) -> *mut f32 {
        let (slab, place) = (page as usize / SLAB_PAGES, page as usize % SLAB_PAGES);
        // SAFETY: a slab holds its pages.
        unsafe { self.slabs[slab].pointer().add(place * self.page_numbers) }
    }

    /// Pages in use.
    pub(super) fn used(&self) -> usize {
        self.users.len() - self.free.len()
    }
}

/// The pages of one sequence, in order of position.
#[derive(Debug, Default)]
pub(super) struct PageTable {
    pub pages: Vec<PageId>,
    /// Positions written.
    pub length: usize,
}

impl PageTable {
    /// Makes room for `length` positions.
    pub(super) fn reserve(&mut self, pool: &mut PagePool, length: usize) {
        while self.pages.len() * PAGE < length {
            self.pages.push(pool.take());
        }
    }

    /// A sequence that begins as this one: whole pages are shared, the last one is copied when it is not full.
    pub(super) fn fork(&self, pool: &mut PagePool) -> PageTable {
        let whole = self.length / PAGE;
        let mut pages = Vec::with_capacity(self.pages.len() + 4);
        for &page in &self.pages[..whole] {
            pool.share(page);
            pages.push(page);
        }
        if !self.length.is_multiple_of(PAGE) {
            pages.push(pool.copy(self.pages[whole]));
        }
        PageTable { pages, length: self.length }
    }

    /// Gives all pages back.
    pub(super) fn clear(&mut self, pool: &mut PagePool) {
        for page in self.pages.drain(..) {
            pool.release(page);
        }
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_share_whole_pages_and_copy_the_rest() {
        let mut pool = PagePool::new(4);
        let mut prefix = PageTable::default();
        prefix.reserve(&mut pool, PAGE + 3);
        prefix.length = PAGE + 3;
        let last = pool.pointer(prefix.pages[1]);
        // SAFETY: a page of 4 numbers.
        unsafe { *last.add(2) = 7.0 };
        let mut a = prefix.fork(&mut pool);
        let b = prefix.fork(&mut pool);
        assert_eq!(a.pages[0], prefix.pages[0], "whole pages are shared");
        assert!(
            a.pages[1] != prefix.pages[1] && a.pages[1] != b.pages[1],
            "a partial page belongs to one sequence"
        );
        // SAFETY: as above.
        assert_eq!(unsafe { *pool.pointer(a.pages[1]).add(2) }, 7.0, "a partial page is copied");
        assert_eq!(pool.used(), 4);
        prefix.clear(&mut pool);
        assert_eq!(pool.used(), 3, "the shared page has users still");
        a.clear(&mut pool);
        let mut b = b;
        b.clear(&mut pool);
        assert_eq!(pool.used(), 0, "nothing leaks");
    }
}
