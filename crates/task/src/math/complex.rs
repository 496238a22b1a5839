//! Complex numbers in double precision, as far as answers need them.

use std::ops::{Add, Mul, Sub};

/// A complex number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Complex {
    /// Real part.
    pub(super) re: f64,
    /// Imaginary part.
    pub(super) im: f64,
}

impl Complex {
    pub(super) fn real(re: f64) -> Complex {
        Complex { re, im: 0.0 }
    }

    /// Whether the imaginary part is nothing but rounding.
    pub(super) fn is_real(self) -> bool {
        self.im.abs() <= 1e-11 * self.re.abs().max(1e-3)
    }

    pub(super) fn size(self) -> f64 {
        self.re.hypot(self.im)
    }

    pub(super) fn over(self, below: Complex) -> Option<Complex> {
        if below.im == 0.0 {
            return (below.re != 0.0).then(|| Complex { re: self.re / below.re, im: self.im / below.re });
        }
        let square = below.re * below.re + below.im * below.im;
        (square > 0.0).then(|| Complex {
            re: (self.re * below.re + self.im * below.im) / square,
            im: (self.im * below.re - self.re * below.im) / square,
        })
    }

    pub(super) fn exp(self) -> Complex {
        let size = self.re.exp();
        if self.im == 0.0 {
            return Complex::real(size);
        }
        Complex { re: size * self.im.cos(), im: size * self.im.sin() }
    }

    pub(super) fn ln(self) -> Option<Complex> {
        (self.size() > 0.0).then(|| Complex { re: self.size().ln(), im: self.im.atan2(self.re) })
    }

    /// Principal power; `None` for zero to a power that is not positive, other than zero to zero.
    pub(super) fn power(self, exponent: Complex) -> Option<Complex> {
        if exponent.im == 0.0 && exponent.re.fract() == 0.0 && exponent.re.abs() <= 4096.0 {
            return self.integer_power(exponent.re as i32);
        }
        if self.im == 0.0 && exponent.im == 0.0 && self.re >= 0.0 {
            if self.re == 0.0 {
                return (exponent.re > 0.0).then(|| Complex::real(0.0));
            }
            return Some(Complex::real(self.re.powf(exponent.re)));
        }
        if self.size() == 0.0 {
            return (exponent.re > 0.0).then(|| Complex::real(0.0));
        }
        Some((self.ln()? * exponent).exp())
    }

    fn integer_power(self, exponent: i32) -> Option<Complex> {
        if self.im == 0.0 {
            if self.re == 0.0 && exponent < 0 {
                return None;
            }
            return Some(Complex::real(self.re.powi(exponent)));
        }
        let mut total = Complex::real(1.0);
        let (mut factor, mut left) = (self, exponent.unsigned_abs());
        while left > 0 {
            if left & 1 == 1 {
                total = total * factor;
            }
            factor = factor * factor;
            left >>= 1;
        }
        if exponent < 0 { Complex::real(1.0).over(total) } else { Some(total) }
    }

    fn times_i(self) -> Complex {
        Complex { re: -self.im, im: self.re }
    }

    fn times_minus_i(self) -> Complex {
        Complex { re: self.im, im: -self.re }
    }

    pub(super) fn sin(self) -> Complex {
        Complex { re: self.re.sin() * self.im.cosh(), im: self.re.cos() * self.im.sinh() }
    }

    pub(super) fn cos(self) -> Complex {
        Complex { re: self.re.cos() * self.im.cosh(), im: -self.re.sin() * self.im.sinh() }
    }

    pub(super) fn sinh(self) -> Complex {
        Complex { re: self.re.sinh() * self.im.cos(), im: self.re.cosh() * self.im.sin() }
    }

    pub(super) fn cosh(self) -> Complex {
        Complex { re: self.re.cosh() * self.im.cos(), im: self.re.sinh() * self.im.sin() }
    }

    fn sqrt(self) -> Option<Complex> {
        self.power(Complex::real(0.5))
    }

    pub(super) fn asin(self) -> Option<Complex> {
        if self.im == 0.0 && self.re.abs() <= 1.0 {
            return Some(Complex::real(self.re.asin()));
        }
        let one = Complex::real(1.0);
        Some((self.times_i() + (one - self * self).sqrt()?).ln()?.times_minus_i())
    }

    pub(super) fn acos(self) -> Option<Complex> {
        Some(Complex::real(std::f64::consts::FRAC_PI_2) - self.asin()?)
    }

    pub(super) fn atan(self) -> Option<Complex> {
        if self.im == 0.0 {
            return Some(Complex::real(self.re.atan()));
        }
        let one = Complex::real(1.0);
        let quotient = (one + self.times_i()).over(one - self.times_i())?;
        Some(quotient.ln()?.times_minus_i() * Complex::real(0.5))
    }

    pub(super) fn asinh(self) -> Option<Complex> {
        if self.im == 0.0 {
            return Some(Complex::real(self.re.asinh()));
        }
        (self + (self * self + Complex::real(1.0)).sqrt()?).ln()
    }

    pub(super) fn acosh(self) -> Option<Complex> {
        let one = Complex::real(1.0);
        (self + (self + one).sqrt()? * (self - one).sqrt()?).ln()
    }

    pub(super) fn atanh(self) -> Option<Complex> {
        let one = Complex::real(1.0);
        Some((one + self).over(one - self)?.ln()? * Complex::real(0.5))
    }

    /// Lanczos's approximation (g = 7, nine coefficients), about 14 digits; `None` at the poles.
    pub(super) fn gamma(self) -> Option<Complex> {
        const COEFFICIENTS: [f64; 9] = [
            0.999_999_999_999_809_9,
            676.520_368_121_885_1,
            -1_259.139_216_722_402_8,
            771.323_428_777_653_1,
            -176.615_029_162_140_6,
            12.507_343_278_686_905,
            -0.138_571_095_265_720_12,
            9.984_369_578_019_572e-6,
            1.505_632_735_149_311_6e-7,
        ];
        if self.im == 0.0 && self.re.fract() == 0.0 {
            if self.re <= 0.0 || self.re > 171.0 {
                return None;
            }
            return Some(Complex::real((1..self.re as u32).fold(1.0, |p, k| p * f64::from(k))));
        }
        if self.re < 0.5 {
            // Reflection.
            let sine = (self * Complex::real(std::f64::consts::PI)).sin();
            return Complex::real(std::f64::consts::PI).over(sine * (Complex::real(1.0) - self).gamma()?);
        }
        let z = self - Complex::real(1.0);
        let mut series = Complex::real(COEFFICIENTS[0]);
        for (k, coefficient) in (1u32..).zip(&COEFFICIENTS[1..]) {
            series = series + Complex::real(*coefficient).over(z + Complex::real(f64::from(k)))?;
        }
        let t = z + Complex::real(7.5);
        let power = t.power(z + Complex::real(0.5))?;
        let root = (2.0 * std::f64::consts::PI).sqrt();
        Some(power * (t * Complex::real(-1.0)).exp() * series * Complex::real(root))
    }
}

impl Add for Complex {
    type Output = Complex;
    fn add(self, other: Complex) -> Complex {
        Complex { re: self.re + other.re, im: self.im + other.im }
    }
}

impl Sub for Complex {
    type Output = Complex;
    fn sub(self, other: Complex) -> Complex {
        Complex { re: self.re - other.re, im: self.im - other.im }
    }
}

impl Mul for Complex {
    type Output = Complex;
    fn mul(self, other: Complex) -> Complex {
        if self.im == 0.0 && other.im == 0.0 {
            return Complex::real(self.re * other.re);
        }
        Complex { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }
}
