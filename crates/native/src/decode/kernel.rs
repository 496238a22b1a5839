//! The table of kernels: what each takes, and which processor family runs it.
//!
//! Each kernel is written once over [`super::simd::Simd`] and compiled once per processor family;
//! [`Kernels::best`] picks at run time. All of them take raw pointers, because threads work on disjoint parts of
//! shared buffers.

use super::attention::attention_body;
use super::product::product_body;
use super::rows::{heads_body, norm_body};
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{LANES, Portable};
use super::vocabulary::{distribution_body, exponentials_body, largest_body};

/// Positions of one page of keys and values.
pub(super) const PAGE: usize = LANES;
/// Rows of the largest tile of any processor family.
pub(super) const MAX_ROWS: usize = 12;

/// What happens to the sums of a product.
#[derive(Clone, Copy)]
pub(super) enum Epilogue {
    /// Stored.
    Store,
    /// Added to a bias (padded to whole panels), stored.
    Bias(*const f32),
    /// Added to what is there.
    Add,
    /// Panels come in pairs (gate, up): silu(gate) · up is stored.
    SwiGlu,
}

/// `output[row][column] = Σₖ input[row][k] · weight[column][k]` for a range of panels of 16 columns.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub k: usize,
    pub rows: usize,
    pub input: *const f32,
    pub input_stride: usize,
    /// All panels of the matrix, each `[k][16]`.
    pub panels: *const f32,
    pub first_panel: usize,
    pub end_panel: usize,
    pub output: *mut f32,
    pub output_stride: usize,
    pub epilogue: Epilogue,
}

/// `output[row] = input[row] · weight / √(mean(input[row]²) + ε)`; rows are padded with zeros to whole vectors.
#[derive(Clone, Copy)]
pub(super) struct Norm {
    pub rows: usize,
    pub width: usize,
    pub eps: f32,
    pub input: *const f32,
    pub input_stride: usize,
    pub weight: *const f32,
    pub output: *mut f32,
    pub output_stride: usize,
}

/// Shape of attention.
#[derive(Clone, Copy)]
pub(super) struct HeadShape {
    pub head_dim: usize,
    /// Query heads per key/value head.
    pub group: usize,
    pub query_width: usize,
    pub kv_width: usize,
    /// Row stride of values in a page: `head_dim` padded to whole vectors.
    pub value_stride: usize,
    /// Numbers of one key/value head in a page: keys `[head_dim][16]`, then values `[16][value_stride]`.
    pub page_head: usize,
    pub eps: f32,
    /// 1/√head_dim.
    pub scale: f32,
    /// `[head_dim]` or null.
    pub query_norm: *const f32,
    /// `[head_dim]` or null.
    pub key_norm: *const f32,
}

/// Queries, keys and values of rows made ready: norm, rotation, scale; keys and values go into their pages.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub shape: HeadShape,
    pub first_kv: usize,
    pub end_kv: usize,
    pub rows: usize,
    pub qkv: *mut f32,
    pub qkv_stride: usize,
    /// Per row: cos `[head_dim/2]`, then sin.
    pub rotations: *const *const f32,
    /// Per row: the page of its position, at this layer.
    pub pages: *const *mut f32,
    /// Per row: its place in that page.
    pub slots: *const usize,
}

/// Attention of rows that share their first pages, for one key/value head.
#[derive(Clone, Copy)]
pub(super) struct Attention {
    pub shape: HeadShape,
    pub kv_head: usize,
    pub rows: usize,
    pub qkv: *const f32,
    pub qkv_stride: usize,
    /// Per row: its pages at this layer, in order of position.
    pub tables: *const *const *mut f32,
    /// Per row: positions it sees.
    pub lengths: *const usize,
    /// Leading pages common to all rows, and seen whole by all rows.
    pub common: usize,
    pub output: *mut f32,
    pub output_stride: usize,
    /// `[MAX_ROWS][scores_stride]`
    pub scores: *mut f32,
    pub scores_stride: usize,
    /// `[MAX_ROWS][value_stride]`
    pub sums: *mut f32,
    /// `[MAX_ROWS][head_dim]`
    pub queries: *mut f32,
}

/// `output = exp((input − largest) · factor)`; `count` is a multiple of 16, padding holds −∞.
#[derive(Clone, Copy)]
pub(super) struct Exponentials {
    pub count: usize,
    pub largest: f32,
    pub factor: f32,
    pub input: *const f32,
    pub output: *mut f32,
}

/// Sums over the vocabulary that the statistics of a distribution need.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DistributionSums {
    /// Σⱼ log pⱼ
    pub logprobs: f64,
    /// Σⱼ pⱼ log pⱼ
    pub weighted_logprobs: f64,
    /// Σⱼ pⱼ²
    pub squares: f64,
}

/// The kernels of one processor family.
pub(super) struct Kernels {
    pub name: &'static str,
    pub product: unsafe fn(&Product),
    pub norm: unsafe fn(&Norm),
    pub heads: unsafe fn(&Heads),
    pub attention: unsafe fn(&Attention),
    pub exponentials: unsafe fn(&Exponentials) -> f64,
    pub largest: unsafe fn(*const f32, usize) -> f32,
    pub distribution: unsafe fn(*const f32, usize, f32) -> DistributionSums,
}

macro_rules! family {
    ($table:ident, $name:literal, $simd:ty $(, $features:literal)?) => {
        static $table: Kernels = {
            $(#[target_feature(enable = $features)])?
            unsafe fn product(p: &Product) {
                // SAFETY (here and below): the caller's; the features are those of this function.
                unsafe { product_body::<$simd>(p) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn norm(p: &Norm) {
                unsafe { norm_body::<$simd>(p) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn heads(p: &Heads) {
                unsafe { heads_body::<$simd>(p) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn attention(p: &Attention) {
                unsafe { attention_body::<$simd>(p) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn exponentials(p: &Exponentials) -> f64 {
                unsafe { exponentials_body::<$simd>(p) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn largest(input: *const f32, count: usize) -> f32 {
                unsafe { largest_body::<$simd>(input, count) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn distribution(logits: *const f32, count: usize, log_sum: f32) -> DistributionSums {
                unsafe { distribution_body::<$simd>(logits, count, log_sum) }
            }
            Kernels { name: $name, product, norm, heads, attention, exponentials, largest, distribution }
        };
    };
}

family!(PORTABLE, "portable", Portable);
#[cfg(target_arch = "x86_64")]
family!(AVX2, "avx2+fma", Avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
family!(AVX512, "avx512", Avx512, "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma");

impl Kernels {
    /// All that this processor can run, fastest first.
    pub(super) fn available() -> Vec<&'static Kernels> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
            {
                kernels.push(&AVX512);
            }
            if avx2 {
                kernels.push(&AVX2);
            }
        }
        kernels.push(&PORTABLE);
        kernels
    }

    /// The fastest.
    pub(super) fn best() -> &'static Kernels {
        Self::available().first().copied().unwrap_or(&PORTABLE)
    }
}
