//! Sets of real numbers as sorted stretches of the line, and the solution sets of inequalities in one unknown.

use super::evaluate::{Point, is_real_line, real_value, to_float};
use super::expression::{Comparison, Expression, Function};
use super::polynomial::{Atoms, normal};

/// Most stretches of one set.
const MAX_PIECES: usize = 128;
/// Most absolute values in an inequality that is solved.
const MAX_ABSOLUTES: usize = 3;
/// Largest degree whose roots are looked for.
const MAX_DEGREE: usize = 8;
/// Distance, relative to size, below which two ends are the same.
const TOLERANCE: f64 = 1e-9;

/// One stretch of the line; `low == high` with both ends closed is a point.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    low: f64,
    high: f64,
    low_closed: bool,
    high_closed: bool,
}

/// A union of stretches, sorted and apart from each other.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RealSet {
    pieces: Vec<Piece>,
}

fn same(a: f64, b: f64) -> bool {
    a == b || a.is_finite() && b.is_finite() && (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0)
}

impl RealSet {
    /// The stretches whose boundary is among `cuts` and whose inside and ends a test admits.
    fn from_test(mut cuts: Vec<f64>, mut holds: impl FnMut(f64) -> bool) -> RealSet {
        cuts.retain(|c| c.is_finite());
        cuts.sort_by(f64::total_cmp);
        cuts.dedup_by(|a, b| same(*a, *b));
        let mut pieces = Vec::new();
        let mut open: Option<Piece> = None;
        let mut before = f64::NEG_INFINITY;
        for index in 0..=cuts.len() {
            let next = cuts.get(index).copied().unwrap_or(f64::INFINITY);
            let middle = match (before.is_finite(), next.is_finite()) {
                (true, true) => before + (next - before) * 0.4375,
                (true, false) => before + before.abs().max(1.0),
                (false, true) => next - next.abs().max(1.0),
                (false, false) => 0.0,
            };
            if holds(middle) {
                let piece = open.get_or_insert(Piece {
                    low: before,
                    high: next,
                    low_closed: false,
                    high_closed: false,
                });
                piece.high = next;
                piece.high_closed = false;
            } else if let Some(piece) = open.take() {
                pieces.push(piece);
            }
            if next.is_finite() {
                if holds(next) {
                    let point = Piece { low: next, high: next, low_closed: true, high_closed: true };
                    let piece = open.get_or_insert(point);
                    piece.high = next;
                    piece.high_closed = true;
                } else if let Some(piece) = open.take() {
                    pieces.push(piece);
                }
            }
            before = next;
        }
        pieces.extend(open);
        RealSet { pieces }
    }

    fn contains(&self, x: f64) -> bool {
        self.pieces.iter().any(|p| {
            (x > p.low && !same(x, p.low) || p.low_closed && same(x, p.low))
                && (x < p.high && !same(x, p.high) || p.high_closed && same(x, p.high))
        })
    }

    fn combine(&self, other: &RealSet, keep: fn(bool, bool) -> bool) -> Option<RealSet> {
        if self.pieces.len() + other.pieces.len() > MAX_PIECES {
            return None;
        }
        let cuts = self.pieces.iter().chain(&other.pieces).flat_map(|p| [p.low, p.high]).collect();
        Some(RealSet::from_test(cuts, |x| keep(self.contains(x), other.contains(x))))
    }

    /// The set that an expression of intervals, finite sets and their combinations is; `None` when an end is not a real
    /// number without variables.
    pub(super) fn of(e: &Expression) -> Option<RealSet> {
        Some(match e {
            Expression::Interval { left, right, left_open, right_open } => {
                let (low, high) = (real_value(left)?, real_value(right)?);
                let (low_closed, high_closed) =
                    (!left_open && low.is_finite(), !right_open && high.is_finite());
                if low > high || low == high && !(low_closed && high_closed) {
                    return Some(RealSet { pieces: Vec::new() });
                }
                RealSet { pieces: vec![Piece { low, high, low_closed, high_closed }] }
            }
            Expression::Set(elements) => {
                if elements.len() > MAX_PIECES {
                    return None;
                }
                let mut values = Vec::new();
                for element in elements {
                    if element.is_collection() {
                        return None;
                    }
                    values.push(real_value(element).filter(|v| v.is_finite())?);
                }
                values.sort_by(f64::total_cmp);
                values.dedup_by(|a, b| same(*a, *b));
                let point = |v| Piece { low: v, high: v, low_closed: true, high_closed: true };
                RealSet { pieces: values.into_iter().map(point).collect() }
            }
            Expression::Named(set) if is_real_line(*set) => RealSet {
                pieces: vec![Piece {
                    low: f64::NEG_INFINITY,
                    high: f64::INFINITY,
                    low_closed: false,
                    high_closed: false,
                }],
            },
            Expression::Union(a, b) => RealSet::of(a)?.combine(&RealSet::of(b)?, |x, y| x || y)?,
            Expression::Intersection(a, b) => RealSet::of(a)?.combine(&RealSet::of(b)?, |x, y| x && y)?,
            Expression::Difference(a, b) => RealSet::of(a)?.combine(&RealSet::of(b)?, |x, y| x && !y)?,
            _ => return None,
        })
    }

    /// Whether two sets are the same up to rounding of their ends.
    pub(super) fn equals(&self, other: &RealSet) -> bool {
        self.pieces.len() == other.pieces.len()
            && self.pieces.iter().zip(&other.pieces).all(|(a, b)| {
                same(a.low, b.low)
                    && same(a.high, b.high)
                    && a.low_closed == b.low_closed
                    && a.high_closed == b.high_closed
            })
    }
}

/// The one unknown of an expression: a variable, or a call such as `f(x)` taken as a whole.
fn unknown(e: &Expression) -> Option<Expression> {
    fn walk(e: &Expression, found: &mut Vec<Expression>) {
        match e {
            Expression::Symbol(_) | Expression::Call(..) => {
                if !found.contains(e) {
                    found.push(e.clone());
                }
            }
            other => other.children().into_iter().for_each(|c| walk(c, found)),
        }
    }
    let mut found = Vec::new();
    walk(e, &mut found);
    if found.len() == 1 { found.pop() } else { None }
}

fn replace(e: &Expression, from: &Expression, to: &Expression) -> Expression {
    if e == from { to.clone() } else { e.map_children(&mut |c| replace(c, from, to)) }
}

/// The numbers for which a chain of relations in one unknown holds; `None` when it is not such a chain or its boundary
/// cannot be found.
pub(super) fn solution(relation: &Expression) -> Option<RealSet> {
    const NAME: &str = "the unknown";
    let Expression::Relation(terms, signs) = relation else { return None };
    if terms.iter().any(Expression::is_collection)
        || signs.iter().any(|s| matches!(s, Comparison::NotIn | Comparison::Subset | Comparison::Superset))
    {
        return None;
    }
    let name = unknown(relation)?;
    let x = Expression::Symbol(NAME.into());
    let terms: Vec<Expression> = terms.iter().map(|t| replace(t, &name, &x)).collect();
    let mut cuts = Vec::new();
    for pair in terms.windows(2) {
        if pair.iter().any(|t| real_value(t).is_some_and(f64::is_infinite)) {
            continue;
        }
        let difference = Expression::Sum(vec![pair[0].clone(), pair[1].clone().negated()]);
        boundaries(&difference, 0, &mut cuts)?;
    }
    Some(RealSet::from_test(cuts, |at| {
        terms.windows(2).zip(signs).all(|(pair, sign)| {
            let value = |t: &Expression| match real_value(t) {
                Some(v) => Some(v),
                None => Point::new(0, true).with(NAME, at).value(t).filter(|v| v.is_real()).map(|v| v.re),
            };
            let (Some(a), Some(b)) = (value(&pair[0]), value(&pair[1])) else { return false };
            match sign {
                Comparison::Equal => same(a, b),
                Comparison::NotEqual => !same(a, b),
                Comparison::Less => a < b && !same(a, b),
                Comparison::Greater => a > b && !same(a, b),
                Comparison::LessEqual => a < b || same(a, b),
                Comparison::GreaterEqual => a > b || same(a, b),
                _ => false,
            }
        })
    }))
}

/// Where an expression in one variable may change its sign: roots and poles, with absolute values taken both ways.
fn boundaries(e: &Expression, depth: usize, cuts: &mut Vec<f64>) -> Option<()> {
    fn first_absolute(e: &Expression) -> Option<Expression> {
        if matches!(e, Expression::Apply(Function::Abs, v) if !v[0].symbols().is_empty()) {
            return Some(e.clone());
        }
        e.children().into_iter().find_map(first_absolute)
    }
    if let Some(absolute) = first_absolute(e) {
        if depth >= MAX_ABSOLUTES {
            return None;
        }
        let Expression::Apply(_, inner) = &absolute else { return None };
        boundaries(&inner[0], depth + 1, cuts)?;
        boundaries(&replace(e, &absolute, &inner[0]), depth + 1, cuts)?;
        return boundaries(&replace(e, &absolute, &inner[0].clone().negated()), depth + 1, cuts);
    }
    let mut atoms = Atoms::default();
    let form = normal(e, &mut atoms)?;
    if atoms.opaque {
        // Constants such as π or √2 are opaque too: a linear form is read off by values.
        return linear(e, cuts);
    }
    for side in [&form.above, &form.below] {
        let coefficients: Vec<f64> = side.coefficients()?.iter().map(to_float).collect::<Option<_>>()?;
        cuts.extend(real_roots(&coefficients)?);
    }
    Some(())
}

/// The root of an expression that is linear in its variable, found from three values.
fn linear(e: &Expression, cuts: &mut Vec<f64>) -> Option<()> {
    let name = e.symbols().into_iter().next()?;
    let at = |x: f64| Point::new(0, true).with(&name, x).value(e).filter(|v| v.is_real()).map(|v| v.re);
    let (zero, one, two) = (at(0.0)?, at(1.0)?, at(2.0)?);
    let slope = one - zero;
    if !same(two - one, slope) || slope == 0.0 {
        return None;
    }
    cuts.push(-zero / slope);
    Some(())
}

/// Real roots of a polynomial by rising coefficients: closed forms up to degree two, then Durand and Kerner's iteration.
fn real_roots(coefficients: &[f64]) -> Option<Vec<f64>> {
    use super::complex::Complex;
    match coefficients {
        [] | [_] => Some(Vec::new()),
        [c, b] => Some(vec![-c / b]),
        [c, b, a] => {
            let discriminant = b * b - 4.0 * a * c;
            if discriminant < 0.0 {
                return Some(Vec::new());
            }
            // The larger root first, to lose no digits.
            let q = -0.5 * (b + if *b < 0.0 { -discriminant.sqrt() } else { discriminant.sqrt() });
            Some(if q == 0.0 { vec![0.0] } else { vec![q / a, c / q] })
        }
        more if more.len() <= MAX_DEGREE + 1 => {
            let lead = *more.last()?;
            let value = |z: Complex| {
                more.iter().rev().fold(Complex::real(0.0), |total, c| total * z + Complex::real(c / lead))
            };
            let count = more.len() - 1;
            let bound = 1.0 + more.iter().map(|c| (c / lead).abs()).fold(0.0, f64::max);
            let mut roots: Vec<Complex> = (0..count)
                .map(|k| {
                    let angle = 0.7 + k as f64 * std::f64::consts::TAU / count as f64;
                    Complex { re: bound.sqrt() * angle.cos(), im: bound.sqrt() * angle.sin() }
                })
                .collect();
            for _ in 0..300 {
                for k in 0..count {
                    let mut below = Complex::real(1.0);
                    for j in 0..count {
                        if j != k {
                            below = below * (roots[k] - roots[j]);
                        }
                    }
                    if let Some(step) = value(roots[k]).over(below) {
                        roots[k] = roots[k] - step;
                    }
                }
            }
            Some(roots.into_iter().filter(|z| z.im.abs() < 1e-6 * z.size().max(1.0)).map(|z| z.re).collect())
        }
        _ => None,
    }
}
