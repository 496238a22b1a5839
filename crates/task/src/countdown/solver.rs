//! All ways to reach a target.

use super::expression::{Expression, Rational, apply};
use crate::arithmetic::chain::Operator;
use std::collections::HashSet;

const OPERATORS: [Operator; 4] = [Operator::Add, Operator::Subtract, Operator::Multiply, Operator::Divide];

/// A number in play: its value and how it was made.
#[derive(Clone)]
struct Item {
    value: Rational,
    node: usize,
}

enum Node {
    Number(i64),
    Operation(Operator, usize, usize),
}

struct Search {
    target: Rational,
    nodes: Vec<Node>,
    /// Sorted values from which the target was not reached; only when one solution is enough.
    dead: Option<HashSet<Vec<Rational>>>,
    limit: usize,
    found: Vec<Expression>,
    texts: HashSet<String>,
}

/// One expression that uses each number exactly once and has the target as its value; `None` when there is none.
pub fn solve(numbers: &[i64], target: i64) -> Option<Expression> {
    search(numbers, target, 1, true).pop()
}

/// Different expressions that reach the target, at most `limit`. Expressions that differ only in the order of the
/// operands of one `+` or `*` count once.
pub fn solutions(numbers: &[i64], target: i64, limit: usize) -> Vec<Expression> {
    search(numbers, target, limit, false)
}

fn search(numbers: &[i64], target: i64, limit: usize, one: bool) -> Vec<Expression> {
    let mut search = Search {
        target: Rational::from_integer(i128::from(target)),
        nodes: numbers.iter().map(|&number| Node::Number(number)).collect(),
        dead: one.then(HashSet::new),
        limit,
        found: Vec::new(),
        texts: HashSet::new(),
    };
    let mut items: Vec<Item> = numbers
        .iter()
        .enumerate()
        .map(|(node, &number)| Item { value: Rational::from_integer(i128::from(number)), node })
        .collect();
    if !items.is_empty() {
        search.extend(&mut items);
    }
    search.found
}

impl Search {
    fn extend(&mut self, items: &mut Vec<Item>) {
        if self.found.len() >= self.limit {
            return;
        }
        if let [last] = items.as_slice() {
            if last.value == self.target {
                let expression = self.expression(last.node);
                if self.texts.insert(expression.to_string()) {
                    self.found.push(expression);
                }
            }
            return;
        }
        let key = self.dead.as_ref().map(|dead| {
            let mut values: Vec<Rational> = items.iter().map(|item| item.value).collect();
            values.sort();
            (dead.contains(&values), values)
        });
        if let Some((true, _)) = key {
            return;
        }
        let count = items.len();
        for first in 0..count {
            for second in first + 1..count {
                // Largest value first, so that each commuting pair is made once.
                let (high, low) =
                    if items[first].value >= items[second].value { (first, second) } else { (second, first) };
                let (high, low) = (items[high].clone(), items[low].clone());
                for operator in OPERATORS {
                    let orders: &[(&Item, &Item)] = if operator.commutes() || high.value == low.value {
                        &[(&high, &low)]
                    } else {
                        &[(&high, &low), (&low, &high)]
                    };
                    for (left, right) in orders {
                        let Ok(value) = apply(operator, &left.value, &right.value) else { continue };
                        let node = self.nodes.len();
                        self.nodes.push(Node::Operation(operator, left.node, right.node));
                        let mut rest: Vec<Item> = Vec::with_capacity(count - 1);
                        rest.extend(
                            items
                                .iter()
                                .enumerate()
                                .filter(|(index, _)| *index != first && *index != second)
                                .map(|(_, item)| item.clone()),
                        );
                        rest.push(Item { value, node });
                        self.extend(&mut rest);
                        self.nodes.truncate(node);
                        if self.found.len() >= self.limit {
                            return;
                        }
                    }
                }
            }
        }
        if let (Some(dead), Some((_, values))) = (&mut self.dead, key) {
            dead.insert(values);
        }
    }

    fn expression(&self, node: usize) -> Expression {
        match &self.nodes[node] {
            Node::Number(number) => Expression::Number(*number),
            Node::Operation(operator, left, right) => Expression::Operation(
                *operator,
                Box::new(self.expression(*left)),
                Box::new(self.expression(*right)),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_needs_fractions() {
        let expression = solve(&[1, 3, 4, 6], 24).unwrap();
        assert_eq!(expression.value().unwrap(), Rational::from_integer(24));
        assert_eq!(
            solutions(&[1, 3, 4, 6], 24, 10).iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["6/(1-3/4)"]
        );
        assert!(solve(&[1, 1, 1, 1], 24).is_none());
        assert!(solve(&[], 0).is_none());
    }

    #[test]
    fn reaches_the_same_targets_as_trying_everything() {
        // Every tree over every order of the numbers, written independently of the solver.
        fn values(numbers: &[i64]) -> Vec<Rational> {
            if let [number] = numbers {
                return vec![Rational::from_integer(i128::from(*number))];
            }
            let mut out = Vec::new();
            for mask in 1..(1u32 << numbers.len()) - 1 {
                let side = |inside: bool| -> Vec<i64> {
                    let all = numbers.iter().enumerate();
                    all.filter(|(index, _)| (mask >> index & 1 == 1) == inside)
                        .map(|(_, number)| *number)
                        .collect()
                };
                for left in values(&side(true)) {
                    for right in values(&side(false)) {
                        out.extend(
                            OPERATORS.iter().filter_map(|operator| apply(*operator, &left, &right).ok()),
                        );
                    }
                }
            }
            out
        }
        for numbers in [[2, 3, 7, 7], [1, 5, 5, 5], [3, 3, 8, 8], [4, 4, 10, 10]] {
            let reachable: HashSet<Rational> = values(&numbers).into_iter().collect();
            for target in 0..60 {
                let solution = solve(&numbers, target);
                let expected = reachable.contains(&Rational::from_integer(i128::from(target)));
                assert_eq!(solution.is_some(), expected, "{numbers:?} {target}");
                if let Some(solution) = solution {
                    let mut used = solution.numbers();
                    used.sort_unstable();
                    assert_eq!(used, numbers);
                }
            }
        }
    }

    #[test]
    fn solves_the_puzzles_of_the_game_of_24() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/game24/puzzles.jsonl");
        let Ok(text) = std::fs::read_to_string(path) else {
            eprintln!("skipped: {path} is not there");
            return;
        };
        let mut solved = 0;
        for line in text.lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let numbers: Vec<i64> =
                row["puzzle"].as_str().unwrap().split(' ').map(|number| number.parse().unwrap()).collect();
            let solution = solve(&numbers, 24).unwrap_or_else(|| panic!("{numbers:?} is solvable"));
            assert_eq!(solution.value().unwrap(), Rational::from_integer(24));
            solved += 1;
        }
        assert_eq!(solved, 900);
    }
}
