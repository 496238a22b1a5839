//! One table from errors to exit codes; messages and hints come from the crates that know.

use std::fmt;

/// Exit codes, part of the contract; `elenchus --help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Anything that has no code of its own.
    Failed = 1,
    /// The command line is wrong (unknown option, recipe, task, model, setting).
    Usage = 2,
    /// A file that was fed in is wrong.
    Input = 3,
    /// The model or endpoint failed.
    Model = 4,
    /// The budget is exhausted or too small.
    Budget = 5,
    /// The disk, or a run folder in use.
    Storage = 6,
    /// Ctrl-C; everything finished is kept.
    Interrupted = 130,
}

/// An error on its way to the person.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub code: Code,
    /// What, where, and a `hint:` line.
    pub message: String,
}

impl Failure {
    /// A failure with a message and a hint.
    pub fn new(code: Code, message: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Failure { code, message: format!("{message}\nhint: {hint}") }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

macro_rules! failures {
    ($($error:ty => $code:expr),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let code: fn(&$error) -> Code = $code;
                Failure { code: code(&error), message: error.to_string() }
            }
        })*
    };
}

failures! {
    elenchus_recipe::RecipeError => |error| match error {
        elenchus_recipe::RecipeError::Learn(error) => learn(error),
        elenchus_recipe::RecipeError::Remember(error) => storage(error),
        elenchus_recipe::RecipeError::Native(_) => Code::Model,
        elenchus_recipe::RecipeError::Control(error) => control(error),
        elenchus_recipe::RecipeError::Generate(error) => generate(error),
        _ => Code::Usage,
    },
    elenchus_control::ControlError => |error| control(error),
    elenchus_task::TaskError => |_| Code::Usage,
    elenchus_trace::TraceError => |_| Code::Input,
    elenchus_measure::MeasureError => |_| Code::Input,
    elenchus_native::NativeError => |_| Code::Model,
    elenchus_remember::RememberError => |error| storage(error),
    elenchus_generate::GenerateError => |error| generate(error),
    elenchus_learn::LearnError => |error| learn(error),
    elenchus_serve::ServeError => |error| match error {
        elenchus_serve::ServeError::Store(error) => storage(error),
        elenchus_serve::ServeError::Generate(error) => generate(error),
        elenchus_serve::ServeError::Listen { .. } => Code::Failed,
        _ => Code::Usage,
    },
    std::io::Error => |_| Code::Storage,
}

fn storage(error: &elenchus_remember::RememberError) -> Code {
    use elenchus_remember::RememberError as E;
    match error {
        E::Server { kind: elenchus_remember::ServerFailure::Address, .. } => Code::Usage,
        E::Io { .. } | E::Database { .. } | E::Server { .. } | E::Locked { .. } => Code::Storage,
        E::RunExists { .. } | E::NotEmpty { .. } | E::Name { .. } => Code::Usage,
        _ => Code::Input,
    }
}

fn generate(error: &elenchus_generate::GenerateError) -> Code {
    use elenchus_generate::GenerateError as E;
    match error {
        E::Budget { .. } => Code::Budget,
        E::Cancelled => Code::Interrupted,
        E::Capability { .. } => Code::Usage,
        _ => Code::Model,
    }
}

fn learn(error: &elenchus_learn::LearnError) -> Code {
    use elenchus_learn::LearnError as E;
    match error {
        E::Interrupted => Code::Interrupted,
        E::Setting { .. } | E::Task(_) => Code::Usage,
        E::Remember(error) => storage(error),
        E::Native(_) | E::Decode(_) => Code::Model,
        _ => Code::Failed,
    }
}

fn control(error: &elenchus_control::ControlError) -> Code {
    use elenchus_control::ControlError as E;
    match error {
        E::Budget { .. } => Code::Budget,
        E::Generate(error) => generate(error),
        E::Setting { .. } | E::Unknown { .. } | E::Capability { .. } => Code::Usage,
        _ => Code::Failed,
    }
}
