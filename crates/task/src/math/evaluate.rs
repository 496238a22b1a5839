//! Values: exact rationals, and complex floating-point numbers at pseudo-random points.

use super::complex::Complex;
use super::expression::{Binder, Constant, Expression, Function, NumberSet, Rational};
use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};
use std::hash::{Hash, Hasher};

/// Most bits of an exact numerator or denominator.
const MAX_BITS: u64 = 40_000;
/// Largest argument of an exact factorial.
const MAX_FACTORIAL: u32 = 2_000;
/// Most terms of a sum or product that is added up.
const MAX_TERMS: i64 = 2_000;

fn small(value: Rational) -> Option<Rational> {
    (value.numer().bits() <= MAX_BITS && value.denom().bits() <= MAX_BITS).then_some(value)
}

/// The exact value of an expression without variables that is rational by its form; `None` otherwise, and when the value
/// would be too large or is not defined.
pub(super) fn exact(e: &Expression) -> Option<Rational> {
    match e {
        Expression::Number(n) | Expression::Decimal(n) => Some(n.clone()),
        Expression::Percent(inner) => Some(exact(inner)? / Rational::from_integer(100.into())),
        Expression::Sum(terms) => {
            let mut total = Rational::zero();
            for term in terms {
                total = small(total + exact(term)?)?;
            }
            Some(total)
        }
        Expression::Product(factors) => {
            let mut total = Rational::one();
            for factor in factors {
                total = small(total * exact(factor)?)?;
            }
            Some(total)
        }
        Expression::Power(base, exponent) => exact_power(&exact(base)?, &exact(exponent)?),
        Expression::Apply(function, arguments) => exact_apply(*function, arguments),
        _ => None,
    }
}

fn exact_power(base: &Rational, exponent: &Rational) -> Option<Rational> {
    if !exponent.is_integer() {
        let root = exact_root(base, exponent.denom())?;
        return exact_power(&root, &Rational::from_integer(exponent.numer().clone()));
    }
    let n = exponent.numer().to_i64()?;
    if base.is_zero() {
        return match n {
            0 => Some(Rational::one()),
            n if n > 0 => Some(Rational::zero()),
            _ => None,
        };
    }
    let bits = base.numer().bits().max(base.denom().bits());
    if bits > 1 && bits.checked_mul(n.unsigned_abs())? > MAX_BITS {
        return None;
    }
    // With one bit the base is 1 or -1: only the parity of the exponent counts.
    let n = if bits <= 1 { n % 2 } else { n };
    let size = u32::try_from(n.unsigned_abs()).ok()?;
    let raised = Rational::new(base.numer().pow(size), base.denom().pow(size));
    Some(if n < 0 { raised.recip() } else { raised })
}

/// An exact root that is rational; only of numbers that are not negative.
fn exact_root(value: &Rational, index: &BigInt) -> Option<Rational> {
    let index = index.to_u32().filter(|i| (1..=64).contains(i))?;
    if value.is_negative() {
        return None;
    }
    let root = |n: &BigInt| {
        let r = n.nth_root(index);
        (Pow::pow(&r, index) == *n).then_some(r)
    };
    Some(Rational::new(root(value.numer())?, root(value.denom())?))
}

fn exact_apply(function: Function, arguments: &[Expression]) -> Option<Rational> {
    let values: Vec<Rational> = arguments.iter().map(exact).collect::<Option<_>>()?;
    let integer = |v: &Rational| v.is_integer().then(|| v.numer().clone());
    match (function, values.as_slice()) {
        (Function::Abs, [a]) => Some(a.abs()),
        (Function::Floor, [a]) => Some(a.floor()),
        (Function::Ceil, [a]) => Some(a.ceil()),
        (Function::Max, all) => all.iter().max().cloned(),
        (Function::Min, all) => all.iter().min().cloned(),
        (Function::Mod, [a, b]) if !b.is_zero() => small(a - b * (a / b).floor()),
        (Function::Root, [a, index]) => {
            let index = integer(index).filter(|i| !i.is_zero())?;
            if a.is_negative() && index.is_odd() {
                return Some(-exact_root(&a.abs(), &index)?);
            }
            exact_root(a, &index)
        }
        (Function::Factorial, [a]) => {
            let n = integer(a)?.to_u32().filter(|n| *n <= MAX_FACTORIAL)?;
            Some(Rational::from_integer((1..=n).fold(BigInt::one(), |p, k| p * k)))
        }
        (Function::Binomial, [n, k]) => {
            let k = integer(k)?.to_u32().filter(|k| *k <= MAX_FACTORIAL)?;
            let mut total = Rational::one();
            for j in 0..k {
                let j = Rational::from_integer(j.into());
                total = small(total * (n - &j) / (j + Rational::one()))?;
            }
            Some(total)
        }
        (Function::Gcd | Function::Lcm, all) if !all.is_empty() => {
            let mut all = all.iter();
            let first = all.next()?.abs();
            let total = all.try_fold(first, |a, b| {
                let scale = a.denom().lcm(b.denom());
                let scaled = |v: &Rational| (v * Rational::from_integer(scale.clone())).to_integer();
                let (x, y) = (scaled(&a), scaled(b));
                let result = if function == Function::Gcd { x.gcd(&y) } else { x.lcm(&y) };
                small(Rational::new(result, scale))
            })?;
            Some(total.abs())
        }
        (Function::Log, [a, base]) => exact_log(a, base),
        _ => None,
    }
}

/// A logarithm that is an integer.
fn exact_log(value: &Rational, base: &Rational) -> Option<Rational> {
    let two = Rational::from_integer(2.into());
    if !value.is_positive()
        || *base < two
        || !base.is_integer()
        || value.numer().bits() + value.denom().bits() > 512
    {
        return None;
    }
    let (mut rest, step) = if *value >= Rational::one() { (value.clone(), 1) } else { (value.recip(), -1) };
    let mut count = 0i64;
    while rest > Rational::one() {
        rest /= base;
        count += step;
    }
    rest.is_one().then(|| Rational::from_integer(count.into()))
}

/// A rational as a floating-point number; `None` beyond its range.
pub(super) fn to_float(value: &Rational) -> Option<f64> {
    if let (Some(n), Some(d)) = (value.numer().to_f64(), value.denom().to_f64())
        && n.is_finite()
        && d.is_finite()
    {
        return Some(n / d);
    }
    // Both may be out of range while their quotient is not.
    let shift = value.numer().bits().max(value.denom().bits()).saturating_sub(900);
    let n = (value.numer() >> shift).to_f64()?;
    let d = (value.denom() >> shift).to_f64()?;
    let quotient = n / d;
    (quotient.is_finite() && d != 0.0).then_some(quotient)
}

/// The real value of an expression without variables; infinities allowed.
pub(super) fn real_value(e: &Expression) -> Option<f64> {
    match e {
        Expression::Constant(Constant::Infinity) => return Some(f64::INFINITY),
        Expression::Product(v) => {
            if let [Expression::Number(n), Expression::Constant(Constant::Infinity)] = v.as_slice() {
                return Some(if n.is_negative() { f64::NEG_INFINITY } else { f64::INFINITY });
            }
        }
        _ => {}
    }
    if let Some(value) = exact(e) {
        return to_float(&value);
    }
    if e.any(&|x| matches!(x, Expression::Symbol(_) | Expression::Call(..))) {
        return None;
    }
    let value = Point::new(0, true).value(e)?;
    value.is_real().then_some(value.re)
}

/// FNV-1a with a final mix: the same on every platform and in every version of the standard library.
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A place at which expressions are evaluated: every variable has a pseudo-random value that its name determines.
pub(super) struct Point {
    seed: u64,
    positive: bool,
    bindings: Vec<(String, Complex)>,
    budget: u32,
}

impl Point {
    /// A point of a seed; `positive`: whether all variables are.
    pub(super) fn new(seed: u64, positive: bool) -> Point {
        Point { seed, positive, bindings: Vec::new(), budget: 200_000 }
    }

    /// The same point with a variable set to a value.
    pub(super) fn with(mut self, name: &str, value: f64) -> Point {
        self.bindings.push((name.to_string(), Complex::real(value)));
        self
    }

    fn random(&self, key: impl Hash) -> f64 {
        let mut hasher = Mixer(0xcbf2_9ce4_8422_2325);
        (self.seed, key).hash(&mut hasher);
        let bits = hasher.finish();
        // 53 bits to [0, 1).
        let unit = (bits >> 11) as f64 / (1u64 << 53) as f64;
        let size = 0.35 + 1.9 * unit;
        if !self.positive && bits & 1 == 1 { -size } else { size }
    }

    /// A value for what cannot be computed: the same for the same key.
    fn opaque(&self, e: &Expression) -> Complex {
        Complex::real(self.random(e.key()))
    }

    /// The value of an expression here; `None` where it is not defined, not a number, or too costly.
    pub(super) fn value(&mut self, e: &Expression) -> Option<Complex> {
        self.budget = self.budget.checked_sub(1)?;
        let value = self.raw(e)?;
        (value.re.is_finite() && value.im.is_finite()).then_some(value)
    }

    fn raw(&mut self, e: &Expression) -> Option<Complex> {
        Some(match e {
            Expression::Number(n) | Expression::Decimal(n) => Complex::real(to_float(n)?),
            Expression::Constant(c) => match c {
                Constant::Pi => Complex::real(std::f64::consts::PI),
                Constant::E => Complex::real(std::f64::consts::E),
                Constant::I => Complex { re: 0.0, im: 1.0 },
                Constant::Infinity => return None,
            },
            Expression::Symbol(name) => match self.bindings.iter().rev().find(|(n, _)| n == name) {
                Some((_, value)) => *value,
                None => Complex::real(self.random(name)),
            },
            Expression::Percent(inner) => self.value(inner)? * Complex::real(0.01),
            Expression::Sum(terms) => {
                let mut total = Complex::real(0.0);
                for term in terms {
                    total = total + self.value(term)?;
                }
                total
            }
            Expression::Product(factors) => {
                let mut total = Complex::real(1.0);
                for factor in factors {
                    total = total * self.value(factor)?;
                }
                total
            }
            Expression::Power(base, exponent) => {
                let exponent = self.value(exponent)?;
                self.value(base)?.power(exponent)?
            }
            Expression::Call(name, arguments) => {
                // Nine significant digits, so that rounding in the arguments does not change the value.
                let mut key = Vec::new();
                for argument in arguments {
                    let v = self.value(argument)?;
                    key.push(format!("{:.8e},{:.8e}", v.re + 0.0, v.im + 0.0));
                }
                Complex::real(self.random((name, key)))
            }
            Expression::Apply(function, arguments) => {
                if let Some(value) = exact(e) {
                    return to_float(&value).map(Complex::real);
                }
                let mut values = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    values.push(self.value(argument)?);
                }
                match apply(*function, &values) {
                    Applied::Value(value) => value,
                    Applied::Undefined => return None,
                    Applied::Opaque => self.opaque(e),
                }
            }
            Expression::Bind(kind, body, variable, bounds) => {
                match self.bound(*kind, body, variable, bounds)? {
                    Some(value) => value,
                    None => self.opaque_bind(e, *kind, body, variable, bounds),
                }
            }
            _ => return None,
        })
    }

    /// A value for an operator that is not carried out: the same for the same body, as a function, and the same bounds.
    fn opaque_bind(
        &mut self,
        e: &Expression,
        kind: Binder,
        body: &Expression,
        variable: &str,
        bounds: &[Expression],
    ) -> Complex {
        let mut values = Vec::new();
        let mut key = vec![format!("{kind:?}")];
        if bounds.is_empty() {
            // The variable stays free: it is part of what the result depends on.
            key.push(variable.to_string());
            values.push(self.value(body));
        } else {
            for at in [0.73, 1.91] {
                values.push(self.inside(body, variable, at));
            }
            for bound in bounds {
                match self.value(bound) {
                    Some(value) => values.push(Some(value)),
                    None => key.push(bound.key()),
                }
            }
        }
        for value in values {
            match value {
                Some(v) => key.push(format!("{:.8e},{:.8e}", v.re + 0.0, v.im + 0.0)),
                None => return self.opaque(e),
            }
        }
        Complex::real(self.random(key))
    }

    /// The value of a finite sum or product or a definite integral; `Some(None)` when only its form can be compared.
    fn bound(
        &mut self,
        kind: Binder,
        body: &Expression,
        variable: &str,
        bounds: &[Expression],
    ) -> Option<Option<Complex>> {
        let [lower, upper] = bounds else { return Some(None) };
        let (Some(low), Some(high)) = (self.value(lower), self.value(upper)) else { return Some(None) };
        let (low, high) = (low.re, high.re);
        match kind {
            Binder::Sum | Binder::Product => {
                if low.fract() != 0.0 || high.fract() != 0.0 || low.abs().max(high.abs()) > 1e6 {
                    return Some(None);
                }
                let (low, high) = (low as i64, high as i64);
                if high - low > MAX_TERMS {
                    return Some(None);
                }
                let mut total = Complex::real(if kind == Binder::Sum { 0.0 } else { 1.0 });
                for k in low..=high {
                    let value = self.inside(body, variable, k as f64)?;
                    total = if kind == Binder::Sum { total + value } else { total * value };
                }
                Some(Some(total))
            }
            Binder::Integral => {
                // Gauss and Legendre's five points on each of 24 panels.
                const NODES: [(f64, f64); 5] = [
                    (0.0, 0.568_888_888_888_888_9),
                    (0.538_469_310_105_683_1, 0.478_628_670_499_366_47),
                    (-0.538_469_310_105_683_1, 0.478_628_670_499_366_47),
                    (0.906_179_845_938_664, 0.236_926_885_056_189_08),
                    (-0.906_179_845_938_664, 0.236_926_885_056_189_08),
                ];
                const PANELS: u32 = 24;
                let half = (high - low) / f64::from(PANELS) / 2.0;
                let mut total = Complex::real(0.0);
                for panel in 0..PANELS {
                    let middle = low + half * f64::from(2 * panel + 1);
                    for (node, weight) in NODES {
                        let value = self.inside(body, variable, middle + half * node)?;
                        total = total + value * Complex::real(weight * half);
                    }
                }
                Some(Some(total))
            }
            Binder::Derivative | Binder::Limit => Some(None),
        }
    }

    fn inside(&mut self, body: &Expression, variable: &str, at: f64) -> Option<Complex> {
        self.bindings.push((variable.to_string(), Complex::real(at)));
        let value = self.value(body);
        self.bindings.pop();
        value
    }
}

enum Applied {
    Value(Complex),
    Undefined,
    Opaque,
}

fn apply(function: Function, v: &[Complex]) -> Applied {
    let one = Complex::real(1.0);
    let value = match (function, v) {
        (Function::Sin, [x]) => Some(x.sin()),
        (Function::Cos, [x]) => Some(x.cos()),
        (Function::Tan, [x]) => x.sin().over(x.cos()),
        (Function::Csc, [x]) => one.over(x.sin()),
        (Function::Sec, [x]) => one.over(x.cos()),
        (Function::Cot, [x]) => x.cos().over(x.sin()),
        (Function::Asin, [x]) => x.asin(),
        (Function::Acos, [x]) => x.acos(),
        (Function::Atan, [x]) => x.atan(),
        (Function::Acsc, [x]) => one.over(*x).and_then(Complex::asin),
        (Function::Asec, [x]) => one.over(*x).and_then(Complex::acos),
        (Function::Acot, [x]) => one.over(*x).and_then(Complex::atan),
        (Function::Sinh, [x]) => Some(x.sinh()),
        (Function::Cosh, [x]) => Some(x.cosh()),
        (Function::Tanh, [x]) => x.sinh().over(x.cosh()),
        (Function::Asinh, [x]) => x.asinh(),
        (Function::Acosh, [x]) => x.acosh(),
        (Function::Atanh, [x]) => x.atanh(),
        (Function::Log, [x, base]) => match (x.ln(), base.ln()) {
            (Some(a), Some(b)) => a.over(b),
            _ => None,
        },
        (Function::Root, [x, index]) => {
            let odd = index.is_real() && index.re.fract() == 0.0 && index.re.rem_euclid(2.0) == 1.0;
            match one.over(*index) {
                Some(power) if x.is_real() && x.re < 0.0 && odd => {
                    Complex::real(-x.re).power(power).map(|r| r * Complex::real(-1.0))
                }
                Some(power) => x.power(power),
                None => None,
            }
        }
        (Function::Abs, [x]) => Some(Complex::real(x.size())),
        (Function::Floor, [x]) if x.is_real() => Some(Complex::real((x.re + 1e-12).floor())),
        (Function::Ceil, [x]) if x.is_real() => Some(Complex::real((x.re - 1e-12).ceil())),
        (Function::Factorial, [x]) => (*x + one).gamma(),
        (Function::Binomial, [n, k]) => {
            match ((*n + one).gamma(), (*k + one).gamma(), (*n - *k + one).gamma()) {
                (Some(a), Some(b), Some(c)) => a.over(b * c),
                _ => None,
            }
        }
        (Function::Max | Function::Min, all) if all.iter().all(|x| x.is_real()) => {
            let reals = all.iter().map(|x| x.re);
            let best =
                if function == Function::Max { reals.reduce(f64::max) } else { reals.reduce(f64::min) };
            best.map(Complex::real)
        }
        (Function::Mod, [a, b]) if a.is_real() && b.is_real() => {
            (b.re != 0.0).then(|| Complex::real(a.re - b.re * (a.re / b.re).floor()))
        }
        _ => return Applied::Opaque,
    };
    value.map_or(Applied::Undefined, Applied::Value)
}

/// Whether a named set holds a real number, for sets that are stretches of the real line.
pub(super) fn is_real_line(set: NumberSet) -> bool {
    set == NumberSet::Reals
}
