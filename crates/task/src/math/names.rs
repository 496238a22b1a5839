//! What the names of commands mean.

use super::expression::{Function, NumberSet};

/// The function that a command or operator names.
pub(super) fn function_named(name: &str) -> Option<Function> {
    Some(match name {
        "sin" => Function::Sin,
        "cos" => Function::Cos,
        "tan" | "tg" => Function::Tan,
        "csc" => Function::Csc,
        "sec" => Function::Sec,
        "cot" | "ctg" => Function::Cot,
        "arcsin" | "asin" => Function::Asin,
        "arccos" | "acos" => Function::Acos,
        "arctan" | "atan" | "arctg" => Function::Atan,
        "arccsc" => Function::Acsc,
        "arcsec" => Function::Asec,
        "arccot" => Function::Acot,
        "sinh" => Function::Sinh,
        "cosh" => Function::Cosh,
        "tanh" => Function::Tanh,
        "arcsinh" | "arsinh" | "asinh" => Function::Asinh,
        "arccosh" | "arcosh" | "acosh" => Function::Acosh,
        "arctanh" | "artanh" | "atanh" => Function::Atanh,
        "log" | "ln" | "lg" | "exp" => Function::Log,
        "floor" => Function::Floor,
        "ceil" => Function::Ceil,
        "gcd" => Function::Gcd,
        "lcm" => Function::Lcm,
        "max" => Function::Max,
        "min" => Function::Min,
        "det" => Function::Det,
        "sqrt" => Function::Root,
        _ => return None,
    })
}

/// The set that a blackboard letter names.
pub(super) fn number_set(letter: &str) -> Option<NumberSet> {
    Some(match letter.trim() {
        "N" => NumberSet::Naturals,
        "Z" => NumberSet::Integers,
        "Q" => NumberSet::Rationals,
        "R" => NumberSet::Reals,
        "C" => NumberSet::Complexes,
        _ => return None,
    })
}

/// The inverse that the power -1 of a function means.
pub(super) fn inverse_of(function: Function) -> Option<Function> {
    Some(match function {
        Function::Sin => Function::Asin,
        Function::Cos => Function::Acos,
        Function::Tan => Function::Atan,
        Function::Csc => Function::Acsc,
        Function::Sec => Function::Asec,
        Function::Cot => Function::Acot,
        Function::Sinh => Function::Asinh,
        Function::Cosh => Function::Acosh,
        Function::Tanh => Function::Atanh,
        _ => return None,
    })
}

/// Whether a command is a letter or a mark that stands for a variable.
pub(super) fn is_symbol(name: &str) -> bool {
    matches!(
        name,
        "ell"
            | "hbar"
            | "alpha"
            | "beta"
            | "gamma"
            | "Gamma"
            | "delta"
            | "Delta"
            | "epsilon"
            | "varepsilon"
            | "zeta"
            | "eta"
            | "theta"
            | "vartheta"
            | "Theta"
            | "iota"
            | "kappa"
            | "lambda"
            | "Lambda"
            | "mu"
            | "nu"
            | "xi"
            | "Xi"
            | "Pi"
            | "varpi"
            | "rho"
            | "varrho"
            | "sigma"
            | "varsigma"
            | "Sigma"
            | "tau"
            | "upsilon"
            | "Upsilon"
            | "phi"
            | "varphi"
            | "Phi"
            | "chi"
            | "psi"
            | "Psi"
            | "omega"
            | "Omega"
            | "nabla"
            | "partial"
            | "prime"
    )
}
