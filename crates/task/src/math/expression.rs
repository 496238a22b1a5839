use num_bigint::BigInt;
use num_rational::Ratio;
use std::collections::BTreeSet;
use std::fmt::Write;

/// An exact rational number.
pub type Rational = Ratio<BigInt>;

/// A function of fixed meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Function {
    /// Sine; angles are in radians, as written: a degree sign is not converted.
    Sin,
    /// Cosine.
    Cos,
    /// Tangent.
    Tan,
    /// Cosecant.
    Csc,
    /// Secant.
    Sec,
    /// Cotangent.
    Cot,
    /// Inverse sine.
    Asin,
    /// Inverse cosine.
    Acos,
    /// Inverse tangent.
    Atan,
    /// Inverse cosecant.
    Acsc,
    /// Inverse secant.
    Asec,
    /// Inverse cotangent.
    Acot,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Hyperbolic tangent.
    Tanh,
    /// Inverse hyperbolic sine.
    Asinh,
    /// Inverse hyperbolic cosine.
    Acosh,
    /// Inverse hyperbolic tangent.
    Atanh,
    /// Logarithm: argument, base.
    Log,
    /// Root: radicand, index; an odd root of a negative number is real.
    Root,
    /// Absolute value.
    Abs,
    /// Largest integer not above.
    Floor,
    /// Smallest integer not below.
    Ceil,
    /// Factorial.
    Factorial,
    /// Binomial coefficient: upper, lower.
    Binomial,
    /// Greatest common divisor of any number of arguments.
    Gcd,
    /// Least common multiple of any number of arguments.
    Lcm,
    /// Largest argument.
    Max,
    /// Smallest argument.
    Min,
    /// Remainder with the sign of the divisor: dividend, divisor.
    Mod,
    /// Determinant of a matrix.
    Det,
    /// Length of a vector.
    Norm,
}

/// A number with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Constant {
    /// Ratio of circumference to diameter.
    Pi,
    /// Euler's number.
    E,
    /// Imaginary unit.
    I,
    /// Positive infinity.
    Infinity,
}

/// An operator that binds a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Binder {
    /// Sum over an integer range; bounds: lower, upper.
    Sum,
    /// Product over an integer range; bounds: lower, upper.
    Product,
    /// Integral; bounds: none, or lower and upper.
    Integral,
    /// Derivative; no bounds.
    Derivative,
    /// Limit; bounds: the point approached.
    Limit,
}

/// A comparison sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Comparison {
    /// `=`, and `∈` where the right side is a set.
    Equal,
    /// `≠`.
    NotEqual,
    /// `<`.
    Less,
    /// `≤`.
    LessEqual,
    /// `>`.
    Greater,
    /// `≥`.
    GreaterEqual,
    /// `∉`.
    NotIn,
    /// `⊂`, `⊆`.
    Subset,
    /// `⊃`, `⊇`.
    Superset,
}

impl Comparison {
    /// The sign when the sides change places.
    pub fn flipped(self) -> Comparison {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessEqual => Comparison::GreaterEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterEqual => Comparison::LessEqual,
            Comparison::Subset => Comparison::Superset,
            Comparison::Superset => Comparison::Subset,
            same => same,
        }
    }
}

/// A set of numbers with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NumberSet {
    /// 1, 2, 3, …
    Naturals,
    /// Integers.
    Integers,
    /// Fractions.
    Rationals,
    /// The real line.
    Reals,
    /// The complex plane.
    Complexes,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expression {
    /// An exact number.
    Number(Rational),
    /// A number that was written with a decimal point: exact as written, compared at the stated precision.
    Decimal(Rational),
    /// A named number.
    Constant(Constant),
    /// A variable or a word.
    Symbol(String),
    /// A sum.
    Sum(Vec<Expression>),
    /// A product.
    Product(Vec<Expression>),
    /// Base and exponent.
    Power(Box<Expression>, Box<Expression>),
    /// A percentage: the number before the sign.
    Percent(Box<Expression>),
    /// A function of fixed meaning and its arguments.
    Apply(Function, Vec<Expression>),
    /// A function without a fixed meaning, such as `f(x)`.
    Call(String, Vec<Expression>),
    /// Operator, body, bound variable, bounds.
    Bind(Binder, Box<Expression>, String, Vec<Expression>),
    /// `a ± b`; expanded where lists are built.
    PlusMinus(Box<Expression>, Box<Expression>),
    /// Rows of equal length.
    Matrix(Vec<Vec<Expression>>),
    /// A finite set, in the order written.
    Set(Vec<Expression>),
    /// An ordered tuple.
    Tuple(Vec<Expression>),
    /// An interval, or a pair in round brackets that could be one.
    Interval {
        /// Left end.
        left: Box<Expression>,
        /// Right end.
        right: Box<Expression>,
        /// Whether the left end is outside.
        left_open: bool,
        /// Whether the right end is outside.
        right_open: bool,
    },
    /// Union.
    Union(Box<Expression>, Box<Expression>),
    /// Intersection.
    Intersection(Box<Expression>, Box<Expression>),
    /// Set difference.
    Difference(Box<Expression>, Box<Expression>),
    /// A named set of numbers.
    Named(NumberSet),
    /// `t0 op0 t1 op1 t2 …`: one more term than signs.
    Relation(Vec<Expression>, Vec<Comparison>),
}

impl Expression {
    /// An integer.
    pub fn integer(value: i64) -> Expression {
        Expression::Number(Ratio::from_integer(BigInt::from(value)))
    }

    /// The negative of an expression; a number stays a number.
    pub fn negated(self) -> Expression {
        match self {
            Expression::Number(n) => Expression::Number(-n),
            Expression::Decimal(n) => Expression::Decimal(-n),
            Expression::Product(mut factors) => {
                factors.insert(0, Expression::integer(-1));
                Expression::Product(factors)
            }
            other => Expression::Product(vec![Expression::integer(-1), other]),
        }
    }

    /// One over an expression.
    pub fn inverse(self) -> Expression {
        Expression::Power(Box::new(self), Box::new(Expression::integer(-1)))
    }

    /// Whether this is a set or a tuple of any kind.
    pub fn is_collection(&self) -> bool {
        matches!(
            self,
            Expression::Set(_)
                | Expression::Tuple(_)
                | Expression::Interval { .. }
                | Expression::Union(..)
                | Expression::Intersection(..)
                | Expression::Difference(..)
                | Expression::Named(_)
        )
    }

    /// The parts, in order.
    pub fn children(&self) -> Vec<&Expression> {
        match self {
            Expression::Number(_)
            | Expression::Decimal(_)
            | Expression::Constant(_)
            | Expression::Symbol(_)
            | Expression::Named(_) => Vec::new(),
            Expression::Sum(v)
            | Expression::Product(v)
            | Expression::Apply(_, v)
            | Expression::Call(_, v)
            | Expression::Set(v)
            | Expression::Tuple(v)
            | Expression::Relation(v, _) => v.iter().collect(),
            Expression::Power(a, b)
            | Expression::PlusMinus(a, b)
            | Expression::Union(a, b)
            | Expression::Intersection(a, b)
            | Expression::Difference(a, b) => vec![a, b],
            Expression::Percent(a) => vec![a],
            Expression::Bind(_, body, _, bounds) => {
                let mut parts = vec![body.as_ref()];
                parts.extend(bounds.iter());
                parts
            }
            Expression::Matrix(rows) => rows.iter().flatten().collect(),
            Expression::Interval { left, right, .. } => vec![left, right],
        }
    }

    /// The same expression with every part replaced.
    pub fn map_children(&self, change: &mut dyn FnMut(&Expression) -> Expression) -> Expression {
        let mut list = |v: &Vec<Expression>| v.iter().map(&mut *change).collect::<Vec<_>>();
        match self {
            Expression::Sum(v) => Expression::Sum(list(v)),
            Expression::Product(v) => Expression::Product(list(v)),
            Expression::Apply(f, v) => Expression::Apply(*f, list(v)),
            Expression::Call(f, v) => Expression::Call(f.clone(), list(v)),
            Expression::Set(v) => Expression::Set(list(v)),
            Expression::Tuple(v) => Expression::Tuple(list(v)),
            Expression::Relation(v, ops) => Expression::Relation(list(v), ops.clone()),
            Expression::Power(a, b) => Expression::Power(Box::new(change(a)), Box::new(change(b))),
            Expression::PlusMinus(a, b) => Expression::PlusMinus(Box::new(change(a)), Box::new(change(b))),
            Expression::Union(a, b) => Expression::Union(Box::new(change(a)), Box::new(change(b))),
            Expression::Intersection(a, b) => {
                Expression::Intersection(Box::new(change(a)), Box::new(change(b)))
            }
            Expression::Difference(a, b) => Expression::Difference(Box::new(change(a)), Box::new(change(b))),
            Expression::Percent(a) => Expression::Percent(Box::new(change(a))),
            Expression::Bind(b, body, var, bounds) => {
                let body = Box::new(change(body));
                Expression::Bind(*b, body, var.clone(), bounds.iter().map(change).collect())
            }
            Expression::Matrix(rows) => Expression::Matrix(rows.iter().map(list).collect()),
            Expression::Interval { left, right, left_open, right_open } => Expression::Interval {
                left: Box::new(change(left)),
                right: Box::new(change(right)),
                left_open: *left_open,
                right_open: *right_open,
            },
            leaf => leaf.clone(),
        }
    }

    /// Whether some part, or the whole, satisfies a condition.
    pub fn any(&self, condition: &dyn Fn(&Expression) -> bool) -> bool {
        condition(self) || self.children().into_iter().any(|c| c.any(condition))
    }

    /// Names of the variables, in order of first appearance, bound ones included.
    pub fn symbols(&self) -> Vec<String> {
        fn walk(e: &Expression, seen: &mut BTreeSet<String>, out: &mut Vec<String>) {
            if let Expression::Symbol(name) = e
                && seen.insert(name.clone())
            {
                out.push(name.clone());
            }
            for child in e.children() {
                walk(child, seen, out);
            }
        }
        let (mut seen, mut out) = (BTreeSet::new(), Vec::new());
        walk(self, &mut seen, &mut out);
        out
    }

    /// A variable replaced by an expression, everywhere it is free.
    pub fn substitute(&self, name: &str, by: &Expression) -> Expression {
        match self {
            Expression::Symbol(s) if s == name => by.clone(),
            Expression::Bind(kind, body, var, bounds) if var == name => Expression::Bind(
                *kind,
                body.clone(),
                var.clone(),
                bounds.iter().map(|b| b.substitute(name, by)).collect(),
            ),
            other => other.map_children(&mut |c| c.substitute(name, by)),
        }
    }

    /// A text that is the same for equal expressions; sums and products in any order, bound variables renamed.
    pub fn key(&self) -> String {
        let mut out = String::new();
        self.write_key(&mut out, 0);
        out
    }

    fn write_key(&self, out: &mut String, binders: usize) {
        let unordered = |out: &mut String, tag: &str, parts: &[Expression]| {
            let mut keys: Vec<String> = parts
                .iter()
                .map(|p| {
                    let mut key = String::new();
                    p.write_key(&mut key, binders);
                    key
                })
                .collect();
            keys.sort_unstable();
            let _ = write!(out, "{tag}({})", keys.join(","));
        };
        match self {
            Expression::Number(n) | Expression::Decimal(n) => {
                let _ = write!(out, "{n}");
            }
            Expression::Symbol(s) => {
                let _ = write!(out, "'{s}");
            }
            Expression::Sum(v) => unordered(out, "+", v),
            Expression::Product(v) => unordered(out, "*", v),
            Expression::Set(v) => unordered(out, "set", v),
            Expression::Bind(kind, body, var, bounds) => {
                let fresh = format!("#{binders}");
                let renamed = body.substitute(var, &Expression::Symbol(fresh));
                let _ = write!(out, "{kind:?}(");
                // A derivative is taken with respect to a variable that stays free.
                if matches!(kind, Binder::Derivative)
                    || (matches!(kind, Binder::Integral) && bounds.is_empty())
                {
                    let _ = write!(out, "'{var};");
                    body.write_key(out, binders + 1);
                } else {
                    renamed.write_key(out, binders + 1);
                }
                for bound in bounds {
                    out.push(';');
                    bound.write_key(out, binders + 1);
                }
                out.push(')');
            }
            other => {
                match other {
                    Expression::Constant(c) => {
                        let _ = write!(out, "{c:?}");
                    }
                    Expression::Named(s) => {
                        let _ = write!(out, "{s:?}");
                    }
                    Expression::Apply(f, _) => {
                        let _ = write!(out, "{f:?}");
                    }
                    Expression::Call(f, _) => {
                        let _ = write!(out, "call {f}");
                    }
                    Expression::Power(..) => out.push('^'),
                    Expression::Percent(_) => out.push('%'),
                    Expression::PlusMinus(..) => out.push('±'),
                    Expression::Matrix(rows) => {
                        let _ = write!(out, "matrix{}", rows.len());
                    }
                    Expression::Tuple(_) => out.push_str("tuple"),
                    Expression::Interval { left_open, right_open, .. } => {
                        let _ = write!(out, "interval{left_open}{right_open}");
                    }
                    Expression::Union(..) => out.push('∪'),
                    Expression::Intersection(..) => out.push('∩'),
                    Expression::Difference(..) => out.push('∖'),
                    Expression::Relation(_, ops) => {
                        let _ = write!(out, "{ops:?}");
                    }
                    _ => {}
                }
                let children = other.children();
                if !children.is_empty() {
                    out.push('(');
                    for child in children {
                        child.write_key(out, binders);
                        out.push(',');
                    }
                    out.push(')');
                }
            }
        }
    }
}
