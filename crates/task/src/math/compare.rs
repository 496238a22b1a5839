//! Whether two expressions mean the same.

use super::evaluate::{Point, exact, real_value, to_float};
use super::expression::{Comparison, Constant, Expression, Function, Rational};
use super::matrix::reduce;
use super::options::{Equivalence, Options, Relation};
use super::parser::is_name;
use super::polynomial::{Atoms, normal};
use super::sets::{RealSet, solution};
use num_bigint::BigInt;
use num_traits::{Pow, Signed, Zero};
use std::cell::Cell;

/// Most comparisons of parts for one pair.
const MAX_STEPS: u32 = 6_000;
/// Most elements of sets whose elements are matched in any order.
const MAX_ELEMENTS: usize = 64;
/// Points at which expressions with variables are compared, of each kind.
const POINTS: u64 = 6;
/// Points that must agree before two expressions count as the same.
const MIN_AGREEING: u32 = 3;
/// Relative tolerance of a comparison in double precision.
const RELATIVE: f64 = 1e-10;
/// Absolute tolerance, for values that cancel.
const ABSOLUTE: f64 = 1e-14;

/// The outcome of comparing two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    Yes(&'static str),
    No(&'static str),
    Unknown(&'static str),
}

impl Truth {
    fn is_yes(self) -> bool {
        matches!(self, Truth::Yes(_))
    }
}

/// Compares two parsed answers.
pub(super) fn compare(gold: &Expression, pred: &Expression, options: &Options) -> Equivalence {
    let comparer = Comparer { options, steps: Cell::new(MAX_STEPS) };
    let (relation, reason) = match comparer.same(gold, pred) {
        Truth::Yes(reason) => (Relation::Equivalent, reason),
        Truth::No(_) if comparer.steps.get() == 0 => {
            (Relation::Undecided, "the comparison reached its limit of steps")
        }
        Truth::No(reason) => (Relation::Different, reason),
        Truth::Unknown(reason) => (Relation::Undecided, reason),
    };
    Equivalence { relation, reason: reason.into() }
}

struct Comparer<'o> {
    options: &'o Options,
    steps: Cell<u32>,
}

fn is_relation(e: &Expression) -> bool {
    matches!(e, Expression::Relation(..))
}

fn is_equation(e: &Expression) -> bool {
    matches!(e, Expression::Relation(_, signs) if signs.iter().all(|s| *s == Comparison::Equal))
}

/// `name = …`, possibly a chain.
fn is_assignment(e: &Expression) -> bool {
    is_equation(e) && matches!(e, Expression::Relation(terms, _) if is_name(&terms[0]))
}

/// A chain of assignments as `first name = last value`.
fn shortened(e: &Expression) -> Expression {
    match e {
        Expression::Relation(terms, _) if terms.len() > 2 && is_assignment(e) => match terms.last() {
            Some(last) => Expression::Relation(vec![terms[0].clone(), last.clone()], vec![Comparison::Equal]),
            None => e.clone(),
        },
        other => other.clone(),
    }
}

fn last_side(e: &Expression) -> Expression {
    match e {
        Expression::Relation(terms, _) => terms.last().cloned().unwrap_or_else(|| e.clone()),
        other => other.clone(),
    }
}

/// The letters of a word: a text, or a product of single letters in the order written.
fn letters(e: &Expression) -> Option<String> {
    let one = |e: &Expression| match e {
        Expression::Symbol(name) => Some(name.clone()),
        Expression::Constant(Constant::E) => Some("e".to_string()),
        Expression::Constant(Constant::I) => Some("i".to_string()),
        _ => None,
    };
    match e {
        Expression::Product(factors) => factors.iter().map(one).collect(),
        other => one(other),
    }
}

/// A number as written: whether with a decimal point, and the number before a percent sign.
struct Literal<'e> {
    decimal: bool,
    bare: Option<&'e Expression>,
}

fn literal(e: &Expression) -> Option<Literal<'_>> {
    match e {
        Expression::Number(_) => Some(Literal { decimal: false, bare: None }),
        Expression::Decimal(_) => Some(Literal { decimal: true, bare: None }),
        Expression::Percent(inner) => match &**inner {
            Expression::Number(_) => Some(Literal { decimal: false, bare: Some(inner) }),
            Expression::Decimal(_) => Some(Literal { decimal: true, bare: Some(inner) }),
            _ => None,
        },
        _ => None,
    }
}

impl Comparer<'_> {
    fn step(&self) -> bool {
        let left = self.steps.get();
        self.steps.set(left.saturating_sub(1));
        left > 0
    }

    fn same(&self, gold: &Expression, pred: &Expression) -> Truth {
        if !self.step() {
            return Truth::No("the comparison reached its limit of steps");
        }
        let renamed;
        let pred = if self.options.strict {
            pred
        } else {
            renamed = rename(gold, pred);
            &renamed
        };
        let (mut gold, mut pred) = (shortened(gold), shortened(pred));
        // The gold answer sets the form: a value is compared with the last side of a predicted equation; a gold
        // `x = 1` is compared as 1 with a predicted value.
        if is_equation(&pred) && !is_equation(&gold) {
            pred = last_side(&pred);
        } else if is_assignment(&gold) && !is_equation(&pred) {
            gold = last_side(&gold);
        }
        if gold == pred || gold.key() == pred.key() {
            return Truth::Yes("same form");
        }
        if is_relation(&gold) && (pred.is_collection())
            || self.options.allow_set_relation_comp && is_relation(&pred) && gold.is_collection()
        {
            let set_of = |e: &Expression| if is_relation(e) { solution(e) } else { RealSet::of(e) };
            if let (Some(a), Some(b)) = (set_of(&gold), set_of(&pred)) {
                return if a.equals(&b) {
                    Truth::Yes("the relation describes the set")
                } else {
                    Truth::No("the relation describes another set")
                };
            }
        }
        if let (Expression::Relation(..), Expression::Relation(..)) = (&gold, &pred) {
            return self.relations(&gold, &pred);
        }
        if gold.is_collection() || pred.is_collection() {
            return self.collections(&gold, &pred);
        }
        if is_relation(&gold) || is_relation(&pred) {
            return Truth::No("one is a relation, the other a value");
        }
        // `$abc$` reads as a product of letters where `\text{abc}` is one name.
        let name = |e: &Expression| matches!(e, Expression::Symbol(_));
        if (name(&gold) || name(&pred))
            && let (Some(a), Some(b)) = (letters(&gold), letters(&pred))
        {
            return if a == b { Truth::Yes("same word") } else { Truth::No("different words") };
        }
        self.values(&gold, &pred)
    }

    fn values(&self, gold: &Expression, pred: &Expression) -> Truth {
        let (gold, pred) = (reduce(gold), reduce(pred));
        match (&gold, &pred) {
            (Expression::Matrix(a), Expression::Matrix(b)) => {
                if a.len() != b.len() || a[0].len() != b[0].len() {
                    return Truth::No("matrices of different shape");
                }
                return self.all(
                    a.iter().flatten().zip(b.iter().flatten()),
                    "same matrix",
                    "different entries",
                );
            }
            (Expression::Matrix(_), _) | (_, Expression::Matrix(_)) => {
                return Truth::No("one is a matrix, the other not");
            }
            _ => {}
        }
        let (a, b) = (literal(&gold), literal(&pred));
        let written = |l: &Option<Literal<'_>>| l.as_ref().is_some_and(|l| l.decimal);
        let decimal = written(&a) || written(&b);
        // `28 %` is also accepted as 28.
        let bare = [a.as_ref().and_then(|l| l.bare), b.as_ref().and_then(|l| l.bare)];
        if (bare[0].is_some() || bare[1].is_some()) && a.is_some() && b.is_some() {
            let x = bare[0].unwrap_or(&gold);
            let y = bare[1].unwrap_or(&pred);
            if self.rounded(x, y) == Some(true) {
                return Truth::Yes("same number before the percent sign");
            }
        }
        if let (Some(x), Some(y)) = (exact(&gold), exact(&pred)) {
            if x == y {
                return Truth::Yes("same number");
            }
            if decimal {
                return if self.rounded(&gold, &pred) == Some(true) {
                    Truth::Yes("same number at the stated precision")
                } else {
                    Truth::No("different numbers")
                };
            }
            return Truth::No("different numbers");
        }
        if decimal {
            return match self.rounded(&gold, &pred) {
                Some(true) => Truth::Yes("same number at the stated precision"),
                Some(false) => Truth::No("different numbers"),
                None => Truth::No("a number and something that is not"),
            };
        }
        let mut atoms = Atoms::default();
        if let (Some(x), Some(y)) = (normal(&gold, &mut atoms), normal(&pred, &mut atoms))
            && !x.below.is_zero()
            && !y.below.is_zero()
        {
            match x.equals(&y) {
                Some(true) => return Truth::Yes("same normal form"),
                // Polynomials in independent variables are the same function only when they are the same.
                Some(false) if !atoms.opaque => return Truth::No("different normal forms"),
                _ => {}
            }
        }
        numeric(&gold, &pred)
    }

    /// Whether two real numbers are the same after rounding; `None` when one is not a real number.
    fn rounded(&self, a: &Expression, b: &Expression) -> Option<bool> {
        let digits = self.options.precision;
        if let (Some(x), Some(y)) = (exact(a), exact(b)) {
            let scale = Rational::from_integer(BigInt::from(10).pow(digits));
            return Some((x * &scale).round() == (y * scale).round());
        }
        let (x, y) = (float_or_real(a)?, float_or_real(b)?);
        // Double precision holds about 15 digits: beyond them the relative difference decides.
        let size = x.abs().max(y.abs());
        let shift = i32::try_from(digits).ok()?;
        if size * 10f64.powi(shift) < 1e13 {
            let scale = 10f64.powi(shift);
            return Some((x * scale).round() == (y * scale).round());
        }
        Some((x - y).abs() <= 1e-13 * size)
    }

    fn all<'e>(
        &self,
        pairs: impl Iterator<Item = (&'e Expression, &'e Expression)>,
        yes: &'static str,
        no: &'static str,
    ) -> Truth {
        let mut unknown = None;
        for (a, b) in pairs {
            match self.same(a, b) {
                Truth::Yes(_) => {}
                Truth::No(_) => return Truth::No(no),
                Truth::Unknown(reason) => unknown = Some(reason),
            }
        }
        unknown.map_or(Truth::Yes(yes), Truth::Unknown)
    }

    fn collections(&self, gold: &Expression, pred: &Expression) -> Truth {
        if let (
            Expression::Interval { left: a, right: b, left_open: c, right_open: d },
            Expression::Interval { left: e, right: f, left_open: g, right_open: h },
        ) = (gold, pred)
        {
            if c != g || d != h {
                return Truth::No("intervals with different ends");
            }
            let pairs = [(a.as_ref(), e.as_ref()), (b.as_ref(), f.as_ref())];
            return self.all(pairs.into_iter(), "same interval", "different intervals");
        }
        let composed = |e: &Expression| {
            !matches!(e, Expression::Tuple(_) | Expression::Set(_)) && e.is_collection() && pair(e).is_none()
        };
        if (composed(gold) || composed(pred))
            && let (Some(a), Some(b)) = (RealSet::of(gold), RealSet::of(pred))
        {
            return if a.equals(&b) {
                Truth::Yes("same set of numbers")
            } else {
                Truth::No("different sets of numbers")
            };
        }
        if composed(gold) && composed(pred) {
            return match (gold, pred) {
                (Expression::Union(a, b), Expression::Union(c, d))
                | (Expression::Intersection(a, b), Expression::Intersection(c, d)) => {
                    self.unordered(&[(**a).clone(), (**b).clone()], &[(**c).clone(), (**d).clone()])
                }
                (Expression::Difference(a, b), Expression::Difference(c, d)) => {
                    self.all([(&**a, &**c), (&**b, &**d)].into_iter(), "same set", "different sets")
                }
                _ => Truth::No("different sets"),
            };
        }
        let (Some(a), Some(b)) = (elements(gold), elements(pred)) else {
            return Truth::No("different kinds of sets");
        };
        // A gold set is unordered, and so is what is compared with it; a gold tuple keeps the order written.
        let unordered = matches!(gold, Expression::Set(_))
            || !gold.is_collection()
            || !self.options.strict && matches!(pred, Expression::Set(_));
        if unordered {
            // Only sets forget how often an element stands in them.
            let parts = |e: &Expression, v: Vec<Expression>| {
                if matches!(e, Expression::Set(_)) { distinct(v) } else { v }
            };
            self.unordered(&parts(gold, a), &parts(pred, b))
        } else if a.len() != b.len() {
            Truth::No("different numbers of elements")
        } else {
            self.all(a.iter().zip(&b), "same tuple", "different elements")
        }
    }

    fn unordered(&self, gold: &[Expression], pred: &[Expression]) -> Truth {
        if gold.len() != pred.len() {
            return Truth::No("different numbers of elements");
        }
        if gold.len() > MAX_ELEMENTS {
            let (mut gold, mut pred) = (gold.to_vec(), pred.to_vec());
            gold.sort_by_cached_key(Expression::key);
            pred.sort_by_cached_key(Expression::key);
            return self.all(gold.iter().zip(&pred), "same set", "different elements of large sets");
        }
        let mut used = vec![false; pred.len()];
        let mut unknown = None;
        for a in gold {
            let mut found = false;
            for (index, b) in pred.iter().enumerate() {
                if used[index] {
                    continue;
                }
                match self.same(a, b) {
                    Truth::Yes(_) => {
                        used[index] = true;
                        found = true;
                        break;
                    }
                    Truth::Unknown(reason) => unknown = Some(reason),
                    Truth::No(_) => {}
                }
            }
            if !found {
                return unknown.map_or(Truth::No("an element has no partner"), Truth::Unknown);
            }
        }
        Truth::Yes("same elements")
    }

    fn relations(&self, gold: &Expression, pred: &Expression) -> Truth {
        let (Expression::Relation(g, gs), Expression::Relation(p, ps)) = (gold, pred) else {
            return Truth::No("different kinds of relations");
        };
        if gs.len() != ps.len() {
            return Truth::No("chains of different length");
        }
        let links = |terms: &[Expression], signs: &[Comparison]| {
            terms.windows(2).zip(signs).map(|(w, s)| (w[0].clone(), *s, w[1].clone())).collect::<Vec<_>>()
        };
        let (gold, mut pred) = (links(g, gs), links(p, ps));
        if gold.len() > MAX_ELEMENTS {
            return Truth::Unknown("the chain is too long");
        }
        for link in &gold {
            let Some(index) = pred.iter().position(|other| self.link(link, other)) else {
                return Truth::No("different relations");
            };
            pred.swap_remove(index);
        }
        Truth::Yes("same relation")
    }

    fn link(
        &self,
        gold: &(Expression, Comparison, Expression),
        pred: &(Expression, Comparison, Expression),
    ) -> bool {
        if !self.step() {
            return false;
        }
        let (a, sign, b) = gold;
        let (c, other, d) = pred;
        let flips = sign.flipped() == *other;
        if sign == other && self.same(a, c).is_yes() && self.same(b, d).is_yes() {
            return true;
        }
        if flips && self.same(a, d).is_yes() && self.same(b, c).is_yes() {
            return true;
        }
        if matches!(sign, Comparison::NotIn | Comparison::Subset | Comparison::Superset)
            || [a, b, c, d].iter().any(|e| e.is_collection() || matches!(e, Expression::Matrix(_)))
        {
            return false;
        }
        let either = matches!(sign, Comparison::Equal | Comparison::NotEqual);
        if !(sign == other || flips) {
            return false;
        }
        let difference =
            |l: &Expression, r: &Expression| Expression::Sum(vec![l.clone(), r.clone().negated()]);
        let (x, y) = (difference(a, b), difference(c, d));
        if x.symbols().is_empty() || y.symbols().is_empty() {
            return false;
        }
        // Equations hold together when one is a multiple of the other; inequalities need the right sign of the factor.
        let fits = |factor: f64| factor != 0.0 && (either || (sign == other) == (factor > 0.0));
        let mut atoms = Atoms::default();
        if let (Some(f), Some(g)) = (normal(&x, &mut atoms), normal(&y, &mut atoms)) {
            let factor = f.above.ratio(&g.above).filter(|_| either || f.below == g.below);
            if let Some(factor) = factor {
                return fits(if factor.is_negative() {
                    -1.0
                } else {
                    f64::from(u8::from(!factor.is_zero()))
                });
            }
            if !atoms.opaque && f.below == g.below {
                return false;
            }
        }
        constant_ratio(&x, &y).is_some_and(fits)
    }
}

/// The two elements of a pair in round brackets that was read as an open interval.
fn pair(e: &Expression) -> Option<[&Expression; 2]> {
    match e {
        Expression::Interval { left, right, left_open: true, right_open: true } => Some([left, right]),
        _ => None,
    }
}

fn elements(e: &Expression) -> Option<Vec<Expression>> {
    match e {
        Expression::Set(v) | Expression::Tuple(v) => Some(v.clone()),
        other if !other.is_collection() => Some(vec![other.clone()]),
        other => pair(other).map(|p| p.map(Clone::clone).to_vec()),
    }
}

fn distinct(mut elements: Vec<Expression>) -> Vec<Expression> {
    let mut keys = std::collections::HashSet::new();
    elements.retain(|e| keys.insert(e.key()));
    elements
}

/// The predicted expression with its variables renamed to those of the gold one, by order of appearance.
fn rename(gold: &Expression, pred: &Expression) -> Expression {
    let (to, from) = (gold.symbols(), pred.symbols());
    if to.len() != from.len() || to == from {
        return pred.clone();
    }
    let mut out = pred.clone();
    for (index, name) in from.iter().enumerate() {
        out = out.substitute(name, &Expression::Symbol(format!("renamed {index}")));
    }
    for (index, name) in to.iter().enumerate() {
        out = out.substitute(&format!("renamed {index}"), &Expression::Symbol(name.clone()));
    }
    out
}

fn float_or_real(e: &Expression) -> Option<f64> {
    match exact(e) {
        Some(value) => to_float(&value),
        None => real_value(e).filter(|v| v.is_finite()),
    }
}

fn close(a: super::complex::Complex, b: super::complex::Complex) -> bool {
    (a - b).size() <= RELATIVE * a.size().max(b.size()) + ABSOLUTE
}

fn contains_absolute(e: &Expression) -> bool {
    e.any(&|x| matches!(x, Expression::Apply(Function::Abs, _)))
}

/// Compares values: of constants once, of expressions with variables at several points. Points where only one side is
/// real do not count against `\ln(xy)` and `\ln x + \ln y`, which are the same wherever both are defined.
fn numeric(gold: &Expression, pred: &Expression) -> Truth {
    let variables = !gold.symbols().is_empty() || !pred.symbols().is_empty();
    let calls = |e: &Expression| e.any(&|x| matches!(x, Expression::Call(..) | Expression::Bind(..)));
    if !variables && !calls(gold) && !calls(pred) {
        let (a, b) = (Point::new(0, true).value(gold), Point::new(0, true).value(pred));
        return match (a, b) {
            (Some(a), Some(b)) if close(a, b) => Truth::Yes("same value"),
            (Some(_), Some(_)) => Truth::No("different values"),
            (None, None) if huge(gold) && huge(pred) => Truth::Unknown("the values are too large to compute"),
            (None, Some(_)) | (Some(_), None) => Truth::No("only one is a number within reach"),
            _ => Truth::No("values that are not defined"),
        };
    }
    let strict_domain = contains_absolute(gold) != contains_absolute(pred);
    let (mut real, mut complex, mut mixed) = ((0, 0), (0, 0), 0);
    for seed in 0..2 * POINTS {
        let positive = seed < POINTS;
        let (a, b) = (Point::new(seed, positive).value(gold), Point::new(seed, positive).value(pred));
        let (Some(a), Some(b)) = (a, b) else { continue };
        let agree = close(a, b);
        let tally = match (a.is_real(), b.is_real()) {
            (true, true) => &mut real,
            (false, false) => &mut complex,
            _ if strict_domain => &mut real,
            _ => {
                mixed += 1;
                continue;
            }
        };
        if agree {
            tally.0 += 1;
        } else {
            tally.1 += 1;
        }
        if real.1 > 0 {
            return Truth::No("different values at a point");
        }
    }
    match (real.0, complex) {
        (agreeing, (_, _)) if agreeing >= MIN_AGREEING => Truth::Yes("same values at every point tried"),
        (_, (_, wrong)) if wrong > 0 => Truth::No("different values at a point"),
        (some, (agreeing, _)) if some + agreeing >= MIN_AGREEING => {
            Truth::Yes("same values at every point tried")
        }
        (0, (0, 0)) if mixed > 0 => Truth::No("one is real, the other not"),
        (0, (0, 0)) if gold.any(&is_infinite) != pred.any(&is_infinite) => Truth::No("only one is infinite"),
        _ => Truth::Unknown("no points at which both have values"),
    }
}

fn is_infinite(e: &Expression) -> bool {
    matches!(e, Expression::Constant(Constant::Infinity))
}

/// Whether a power or factorial is in an expression, which may be what makes it too large.
fn huge(e: &Expression) -> bool {
    e.any(&|x| match x {
        Expression::Power(_, exponent) => **exponent != Expression::integer(-1),
        Expression::Apply(Function::Factorial, _) => true,
        _ => false,
    })
}

/// The constant by which two expressions differ at every point tried.
fn constant_ratio(x: &Expression, y: &Expression) -> Option<f64> {
    let mut ratio: Option<f64> = None;
    let mut points = 0;
    for seed in 0..2 * POINTS {
        let positive = seed < POINTS;
        let (a, b) = (Point::new(seed, positive).value(x), Point::new(seed, positive).value(y));
        let (Some(a), Some(b)) = (a, b) else { continue };
        if a.size() < 1e-9 || b.size() < 1e-9 {
            // Both must vanish together.
            if (a.size() < 1e-9) != (b.size() < 1e-9) && a.size().max(b.size()) > 1e-6 {
                return None;
            }
            continue;
        }
        let here = a.over(b)?;
        if !here.is_real() {
            return None;
        }
        match ratio {
            Some(r) if (r - here.re).abs() > 1e-8 * r.abs() => return None,
            _ => ratio = Some(here.re),
        }
        points += 1;
    }
    ratio.filter(|_| points >= MIN_AGREEING)
}
