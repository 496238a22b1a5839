//! Matrix products on the `gemm` crate, checked and single-threaded.

/// A strided view of an `f32` matrix.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major with `stride` numbers from row to row.
    pub(crate) fn rows(data: &'a [f32], stride: usize) -> Self {
        Matrix { data, row_stride: stride, column_stride: 1 }
    }

    /// The transpose.
    pub(crate) fn transposed(self) -> Self {
        Matrix { data: self.data, row_stride: self.column_stride, column_stride: self.row_stride }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        holds(self.data.len(), rows, columns, self.row_stride, self.column_stride)
    }
}

fn holds(length: usize, rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> bool {
    rows == 0 || columns == 0 || (rows - 1) * row_stride + (columns - 1) * column_stride < length
}

/// Whether a product replaces what is in its destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    /// `out = scale a b`
    Replace,
    /// `out += scale a b`
    Add,
}

/// `out (=|+=) scale · a[m,k] · b[k,n]`, `out` row-major `[m,n]` with `stride` numbers from row to row.
pub(crate) fn product(
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    out: &mut [f32],
    stride: usize,
    scale: f32,
    mode: Into,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(a.holds(m, k) && b.holds(k, n) && n <= stride && holds(out.len(), m, n, stride, 1));
    // SAFETY: the assertion keeps every access within the three slices; rows of `out` do not overlap because
    // n <= stride, and `out` is borrowed mutably, so it aliases neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            mode == Into::Add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_transposes_and_scales_mean_what_they_say() {
        let (m, n, k) = (3, 5, 4);
        let a: Vec<f32> = (0..m * 7).map(|i| (i as f32 * 0.7).sin()).collect();
        let b: Vec<f32> = (0..n * 6).map(|i| (i as f32 * 0.3).cos()).collect();
        let mut out = vec![1.0f32; m * 8];
        product(
            (m, n, k),
            Matrix::rows(&a, 7),
            Matrix::rows(&b, 6).transposed(),
            &mut out,
            8,
            0.5,
            Into::Add,
        );
        for i in 0..m {
            for j in 0..8 {
                let dot: f32 = (0..k).map(|c| a[i * 7 + c] * b[(j % n) * 6 + c]).sum();
                let wanted = if j < n { 1.0 + 0.5 * dot } else { 1.0 };
                assert!((out[i * 8 + j] - wanted).abs() < 1e-6, "row {i} column {j}");
            }
        }
    }
}
