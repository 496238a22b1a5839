//! Exact normal form: a quotient of two polynomials with rational coefficients in variables and opaque parts.

use super::evaluate::exact;
use super::expression::{Constant, Expression, Function, Rational};
use num_traits::{One, ToPrimitive, Zero};
use std::collections::{BTreeMap, HashMap};

/// Most terms of a polynomial in normal form.
const MAX_TERMS: usize = 256;
/// Largest power that is multiplied out.
const MAX_POWER: i64 = 32;
/// Most bits of a coefficient.
const MAX_BITS: u64 = 4_096;

type Monomial = Vec<(u32, u32)>;

/// Coefficients by monomial; none is zero.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Polynomial(BTreeMap<Monomial, Rational>);

/// The variables and opaque parts seen so far, numbered.
#[derive(Default)]
pub(super) struct Atoms {
    numbers: HashMap<String, u32>,
    /// Whether something other than a variable was seen, about which identities may hold that we do not know.
    pub(super) opaque: bool,
}

impl Atoms {
    fn number(&mut self, key: String) -> u32 {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(key).or_insert(next)
    }
}

impl Polynomial {
    fn constant(value: Rational) -> Polynomial {
        let mut terms = BTreeMap::new();
        if !value.is_zero() {
            terms.insert(Vec::new(), value);
        }
        Polynomial(terms)
    }

    fn atom(number: u32) -> Polynomial {
        Polynomial(BTreeMap::from([(vec![(number, 1)], Rational::one())]))
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn add(mut self, other: &Polynomial) -> Option<Polynomial> {
        for (monomial, value) in &other.0 {
            let entry = self.0.entry(monomial.clone()).or_insert_with(Rational::zero);
            *entry += value;
            if entry.is_zero() {
                self.0.remove(monomial);
            }
        }
        (self.0.len() <= MAX_TERMS).then_some(self)
    }

    fn multiply(&self, other: &Polynomial) -> Option<Polynomial> {
        if self.0.len() * other.0.len() > MAX_TERMS * 16 {
            return None;
        }
        let mut out = BTreeMap::new();
        for (m1, v1) in &self.0 {
            for (m2, v2) in &other.0 {
                let mut merged: Monomial = Vec::with_capacity(m1.len() + m2.len());
                let (mut i, mut j) = (0, 0);
                while i < m1.len() || j < m2.len() {
                    match (m1.get(i), m2.get(j)) {
                        (Some(a), Some(b)) if a.0 == b.0 => {
                            merged.push((a.0, a.1 + b.1));
                            i += 1;
                            j += 1;
                        }
                        (Some(a), Some(b)) if a.0 < b.0 => {
                            merged.push(*a);
                            i += 1;
                        }
                        (Some(a), None) => {
                            merged.push(*a);
                            i += 1;
                        }
                        (_, Some(b)) => {
                            merged.push(*b);
                            j += 1;
                        }
                        (None, None) => {}
                    }
                }
                let value = v1 * v2;
                if value.numer().bits() > MAX_BITS || value.denom().bits() > MAX_BITS {
                    return None;
                }
                *out.entry(merged).or_insert_with(Rational::zero) += value;
            }
        }
        out.retain(|_, v: &mut Rational| !v.is_zero());
        (out.len() <= MAX_TERMS).then_some(Polynomial(out))
    }

    /// The factor by which this is a multiple of another, when it is.
    pub(super) fn ratio(&self, other: &Polynomial) -> Option<Rational> {
        if self.0.len() != other.0.len() {
            return None;
        }
        let mut factor: Option<Rational> = None;
        for ((m1, v1), (m2, v2)) in self.0.iter().zip(&other.0) {
            let here = v1 / v2;
            if m1 != m2 || factor.as_ref().is_some_and(|f| *f != here) {
                return None;
            }
            factor = Some(here);
        }
        factor
    }

    /// Coefficients by rising power, when there is at most one variable.
    pub(super) fn coefficients(&self) -> Option<Vec<Rational>> {
        let mut out = Vec::new();
        let mut variable = None;
        for (monomial, value) in &self.0 {
            let power = match monomial.as_slice() {
                [] => 0,
                [(v, power)] if variable.is_none_or(|known| known == *v) => {
                    variable = Some(*v);
                    *power as usize
                }
                _ => return None,
            };
            if out.len() <= power {
                out.resize(power + 1, Rational::zero());
            }
            out[power] = value.clone();
        }
        Some(out)
    }
}

/// A quotient of polynomials.
pub(super) struct Fraction {
    /// Numerator.
    pub(super) above: Polynomial,
    /// Denominator, not zero.
    pub(super) below: Polynomial,
}

impl Fraction {
    fn whole(above: Polynomial) -> Fraction {
        Fraction { above, below: Polynomial::constant(Rational::one()) }
    }

    fn add(self, other: &Fraction) -> Option<Fraction> {
        if self.below == other.below {
            return Some(Fraction { above: self.above.add(&other.above)?, below: self.below });
        }
        let above = self.above.multiply(&other.below)?.add(&other.above.multiply(&self.below)?)?;
        Some(Fraction { above, below: self.below.multiply(&other.below)? })
    }

    fn multiply(&self, other: &Fraction) -> Option<Fraction> {
        Some(Fraction {
            above: self.above.multiply(&other.above)?,
            below: self.below.multiply(&other.below)?,
        })
    }

    /// Whether two quotients are the same; `None` when a product grows too large.
    pub(super) fn equals(&self, other: &Fraction) -> Option<bool> {
        Some(self.above.multiply(&other.below)? == other.above.multiply(&self.below)?)
    }
}

/// The normal form; `None` when it is too large, divides by zero or is not a number.
pub(super) fn normal(e: &Expression, atoms: &mut Atoms) -> Option<Fraction> {
    if let Some(value) = exact(e) {
        return Some(Fraction::whole(Polynomial::constant(value)));
    }
    match e {
        Expression::Sum(terms) => {
            let mut total = Fraction::whole(Polynomial::default());
            for term in terms {
                total = total.add(&normal(term, atoms)?)?;
            }
            Some(total)
        }
        Expression::Product(factors) => {
            let mut total = Fraction::whole(Polynomial::constant(Rational::one()));
            for factor in factors {
                total = total.multiply(&normal(factor, atoms)?)?;
            }
            Some(total)
        }
        Expression::Percent(inner) => {
            let hundredth = Polynomial::constant(Rational::new(1.into(), 100.into()));
            normal(inner, atoms)?.multiply(&Fraction::whole(hundredth))
        }
        Expression::Power(base, exponent) => {
            let whole = exact(exponent).filter(Rational::is_integer).and_then(|n| n.to_integer().to_i64());
            match whole {
                Some(n) if n.abs() <= MAX_POWER => {
                    let base = normal(base, atoms)?;
                    let base = if n < 0 {
                        if base.above.is_zero() {
                            return None;
                        }
                        Fraction { above: base.below, below: base.above }
                    } else {
                        base
                    };
                    let mut total = Fraction::whole(Polynomial::constant(Rational::one()));
                    for _ in 0..n.abs() {
                        total = total.multiply(&base)?;
                    }
                    Some(total)
                }
                _ => Some(opaque(e, atoms)),
            }
        }
        Expression::Symbol(name) => Some(Fraction::whole(Polynomial::atom(atoms.number(format!("'{name}"))))),
        Expression::Constant(Constant::Infinity) => None,
        // The square of a root is known too well to be opaque, but the numeric comparison knows it.
        Expression::Constant(_) | Expression::Apply(_, _) | Expression::Call(..) | Expression::Bind(..) => {
            if matches!(e, Expression::Apply(Function::Det | Function::Norm, _)) {
                return None;
            }
            Some(opaque(e, atoms))
        }
        _ => None,
    }
}

fn opaque(e: &Expression, atoms: &mut Atoms) -> Fraction {
    atoms.opaque = true;
    Fraction::whole(Polynomial::atom(atoms.number(e.key())))
}
