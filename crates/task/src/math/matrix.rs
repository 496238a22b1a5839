//! Sums and products of matrices, and determinants.

use super::expression::{Expression, Function};

/// Most products of entries in one multiplication.
const MAX_PRODUCTS: usize = 4_096;
/// Largest determinant that is expanded.
const MAX_ORDER: usize = 4;

type Rows = Vec<Vec<Expression>>;

/// The expression with sums and products of matrices carried out and determinants expanded, where shapes allow it.
pub(super) fn reduce(e: &Expression) -> Expression {
    if !e.any(&|x| matches!(x, Expression::Matrix(_))) {
        return e.clone();
    }
    let e = e.map_children(&mut reduce);
    match &e {
        Expression::Sum(terms) => add(terms).unwrap_or(e),
        Expression::Product(factors) => multiply(factors).unwrap_or(e),
        Expression::Apply(Function::Det, v) => match v.as_slice() {
            [Expression::Matrix(rows)] => determinant(rows).unwrap_or(e),
            _ => e,
        },
        Expression::Apply(Function::Norm, v) => match v.as_slice() {
            [Expression::Matrix(rows)] if rows.len() == 1 || rows[0].len() == 1 => {
                let two = || Box::new(Expression::integer(2));
                let squares =
                    rows.iter().flatten().map(|x| Expression::Power(Box::new(x.clone()), two())).collect();
                Expression::Apply(Function::Root, vec![Expression::Sum(squares), Expression::integer(2)])
            }
            _ => e,
        },
        _ => e,
    }
}

fn add(terms: &[Expression]) -> Option<Expression> {
    let mut total: Option<Rows> = None;
    for term in terms {
        let Expression::Matrix(rows) = term else { return None };
        total = Some(match total {
            None => rows.clone(),
            Some(sum) if sum.len() == rows.len() && sum[0].len() == rows[0].len() => sum
                .into_iter()
                .zip(rows)
                .map(|(a, b)| {
                    a.into_iter().zip(b).map(|(x, y)| Expression::Sum(vec![x, y.clone()])).collect()
                })
                .collect(),
            Some(_) => return None,
        });
    }
    total.map(Expression::Matrix)
}

fn multiply(factors: &[Expression]) -> Option<Expression> {
    let mut scalars: Vec<Expression> = Vec::new();
    let mut total: Option<Rows> = None;
    for factor in factors {
        match factor {
            Expression::Matrix(rows) => {
                total = Some(match total {
                    None => rows.clone(),
                    Some(left) => {
                        if left[0].len() != rows.len()
                            || left.len() * rows.len() * rows[0].len() > MAX_PRODUCTS
                        {
                            return None;
                        }
                        left.iter()
                            .map(|row| {
                                (0..rows[0].len())
                                    .map(|c| {
                                        let parts = row.iter().zip(rows);
                                        Expression::Sum(
                                            parts
                                                .map(|(a, b)| {
                                                    Expression::Product(vec![a.clone(), b[c].clone()])
                                                })
                                                .collect(),
                                        )
                                    })
                                    .collect()
                            })
                            .collect()
                    }
                });
            }
            other => scalars.push(other.clone()),
        }
    }
    let rows = total?;
    if scalars.is_empty() {
        return Some(Expression::Matrix(rows));
    }
    let scaled = |x: Expression| {
        let mut factors = scalars.clone();
        factors.push(x);
        Expression::Product(factors)
    };
    Some(Expression::Matrix(rows.into_iter().map(|r| r.into_iter().map(scaled).collect()).collect()))
}

fn determinant(rows: &Rows) -> Option<Expression> {
    let order = rows.len();
    if order != rows[0].len() || order > MAX_ORDER {
        return None;
    }
    if order == 1 {
        return Some(rows[0][0].clone());
    }
    let mut terms = Vec::new();
    for column in 0..order {
        let minor: Rows = rows[1..]
            .iter()
            .map(|r| r.iter().enumerate().filter(|(c, _)| *c != column).map(|(_, x)| x.clone()).collect())
            .collect();
        let term = Expression::Product(vec![rows[0][column].clone(), determinant(&minor)?]);
        terms.push(if column % 2 == 1 { term.negated() } else { term });
    }
    Some(Expression::Sum(terms))
}
