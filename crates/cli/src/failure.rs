//! One table from errors to exit codes; messages and hints come from the crates that know.

use elenchus_recipe::CONFIGURATION_FILE;
use elenchus_remember::Run;
use std::fmt;
use std::io::ErrorKind;

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

    /// Names the command that goes on where that helps: after Ctrl-C, and after trouble with the disk.
    pub fn going_on(self, command: &str) -> Self {
        match self.code {
            Code::Interrupted => Failure::new(
                Code::Interrupted,
                "interrupted; everything finished so far is kept",
                format!("{command} goes on"),
            ),
            Code::Storage if !self.message.contains(command) => {
                let named = self.message.replace("`elenchus resume` the run", command);
                let message =
                    if named == self.message { format!("{named}; then {command} goes on") } else { named };
                Failure { code: self.code, message }
            }
            _ => self,
        }
    }

    /// [`Failure::going_on`] with a run folder.
    pub fn in_run(self, run: &Run) -> Self {
        self.going_on(&format!("`elenchus resume {}`", run.path().display()))
    }

    /// Ctrl-C where nothing is kept.
    pub fn nothing_kept(self, hint: &str) -> Self {
        match self.code {
            Code::Interrupted => Failure::new(Code::Interrupted, "interrupted; nothing was kept", hint),
            _ => self,
        }
    }
}

/// The library names the fields of a budget and of the layers around an endpoint; a person sets them by these.
const SPELLINGS: [(&str, &str); 4] = [
    ("`budget.tokens`", "`--max-total-tokens`"),
    ("`budget.calls`", "`--max-calls`"),
    ("`budget.seconds`", "`--max-seconds`"),
    ("`budget.money`", "`--max-money`"),
];

/// Fields of `[endpoint.layers]`.
const LAYERS: [&str; 5] = [
    "timeouts.connect_seconds",
    "timeouts.first_byte_seconds",
    "timeouts.idle_seconds",
    "timeouts.total_seconds",
    "most_body_bytes",
];

/// A message of the library in the words of the command line.
fn spelled(message: &str) -> String {
    let mut message = message.to_string();
    for (field, option) in SPELLINGS {
        message = message.replace(field, option);
    }
    for field in LAYERS {
        let here = format!("`endpoint.layers.{field}` in {CONFIGURATION_FILE}");
        message = message.replace(&format!("`{field}`"), &here);
    }
    message
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
                Failure { code: code(&error), message: spelled(&error.to_string()) }
            }
        })*
    };
}

failures! {
    elenchus_recipe::RecipeError => |error| match error {
        elenchus_recipe::RecipeError::Learn(error) => learn(error),
        elenchus_recipe::RecipeError::Remember(error) => storage(error),
        elenchus_recipe::RecipeError::Native(error) => native(error),
        elenchus_recipe::RecipeError::Control(error) => control(error),
        elenchus_recipe::RecipeError::Generate(error) => generate(error),
        _ => Code::Usage,
    },
    elenchus_control::ControlError => |error| control(error),
    elenchus_task::TaskError => |_| Code::Usage,
    elenchus_trace::TraceError => |_| Code::Input,
    elenchus_measure::MeasureError => |_| Code::Input,
    elenchus_native::NativeError => |error| native(error),
    elenchus_remember::RememberError => |error| storage(error),
    elenchus_generate::GenerateError => |error| generate(error),
    elenchus_learn::LearnError => |error| learn(error),
    elenchus_serve::ServeError => |error| match error {
        elenchus_serve::ServeError::Store(error) => storage(error),
        elenchus_serve::ServeError::Generate(error) => generate(error),
        elenchus_serve::ServeError::Listen { .. } => Code::Failed,
        _ => Code::Usage,
    },
}

impl From<std::io::Error> for Failure {
    /// What is left of these concerns standard output and the threads of the runtime: files have errors with a path.
    fn from(error: std::io::Error) -> Self {
        let hint = match error.kind() {
            ErrorKind::StorageFull => "free some space where standard output goes",
            _ => "standard output must be writable, and the limits on processes and open files high enough",
        };
        Failure::new(Code::Storage, error, hint)
    }
}

fn storage(error: &elenchus_remember::RememberError) -> Code {
    use elenchus_remember::RememberError as E;
    match error {
        E::Server { kind: elenchus_remember::ServerFailure::Address, .. } => Code::Usage,
        // A file that was named and is not there.
        E::Io { operation: "open" | "read", source, .. } if source.kind() == ErrorKind::NotFound => {
            Code::Input
        }
        E::Io { .. } | E::Database { .. } | E::Server { .. } | E::Locked { .. } => Code::Storage,
        E::RunExists { .. } | E::NotEmpty { .. } | E::Name { .. } | E::Import { .. } => Code::Usage,
        _ => Code::Input,
    }
}

fn generate(error: &elenchus_generate::GenerateError) -> Code {
    use elenchus_generate::GenerateError as E;
    match error {
        E::Budget { .. } => Code::Budget,
        E::Cancelled => Code::Interrupted,
        E::Capability { .. } => Code::Usage,
        E::Storage { .. } => Code::Storage,
        _ => Code::Model,
    }
}

/// A model that cannot be read is a failure of the model; one that cannot be written is one of the disk.
fn native(error: &elenchus_native::NativeError) -> Code {
    match error {
        elenchus_native::NativeError::File { action, .. } if *action != "read" => Code::Storage,
        _ => Code::Model,
    }
}

fn learn(error: &elenchus_learn::LearnError) -> Code {
    use elenchus_learn::LearnError as E;
    match error {
        E::Interrupted => Code::Interrupted,
        E::Setting { .. } | E::Task(_) => Code::Usage,
        E::Remember(error) => storage(error),
        E::Native(error) => native(error),
        E::Decode(_) => Code::Model,
        _ => Code::Failed,
    }
}

fn control(error: &elenchus_control::ControlError) -> Code {
    use elenchus_control::ControlError as E;
    match error {
        E::Budget { .. } => Code::Budget,
        E::Generate(error) => generate(error),
        E::Evaluate(error) => evaluate(error),
        E::Setting { .. } | E::Unknown { .. } | E::Capability { .. } | E::Task(_) => Code::Usage,
        E::Recorded { .. } => Code::Input,
    }
}

fn evaluate(error: &elenchus_evaluate::EvaluateError) -> Code {
    use elenchus_evaluate::EvaluateError as E;
    match error {
        E::Setting { .. } | E::Unknown { .. } | E::Capability { .. } | E::Task(_) => Code::Usage,
        E::Generate(error) => generate(error),
        E::Count { .. } => Code::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_control::ControlError;
    use elenchus_evaluate::EvaluateError;
    use elenchus_generate::GenerateError;
    use elenchus_learn::LearnError;
    use elenchus_native::NativeError;

    fn full_disk(action: &'static str) -> NativeError {
        NativeError::File {
            action,
            path: "model.safetensors".into(),
            source: ErrorKind::StorageFull.into(),
            hint: "free some space",
        }
    }

    #[test]
    fn an_error_has_the_code_of_its_cause_wherever_it_comes_from() {
        let storage = GenerateError::Storage { what: "journal".into(), hint: "free some space".into() };
        assert_eq!(Failure::from(storage).code, Code::Storage);
        assert_eq!(Failure::from(LearnError::Native(full_disk("write"))).code, Code::Storage);
        assert_eq!(Failure::from(full_disk("create")).code, Code::Storage);
        assert_eq!(Failure::from(full_disk("read")).code, Code::Model, "a model that cannot be read");
        let unknown = EvaluateError::Unknown { name: "jugde".into(), hint: "`judge`".into() };
        assert_eq!(Failure::from(ControlError::Evaluate(unknown)).code, Code::Usage);
        let spent = || GenerateError::Budget { what: "all".into(), option: "budget.tokens".into() };
        assert_eq!(Failure::from(ControlError::Evaluate(spent().into())).code, Code::Budget);
        let failure = Failure::from(spent());
        assert!(failure.message.contains("raise it with `--max-total-tokens`"), "{failure}");
        let late = spelled("late\nhint: raise `timeouts.first_byte_seconds`, or ask for fewer tokens");
        assert!(
            late.contains("`endpoint.layers.timeouts.first_byte_seconds` in elenchus.toml, or"),
            "{late}"
        );
    }

    #[test]
    fn an_interruption_and_a_full_disk_say_how_to_go_on() {
        let said = |failure: Failure| failure.going_on("`elenchus resume r`").message;
        let interrupted = said(Failure::from(LearnError::Interrupted));
        assert!(interrupted.ends_with("\nhint: `elenchus resume r` goes on"), "{interrupted}");
        let full = said(Failure::from(full_disk("write")));
        assert!(full.ends_with("hint: free some space; then `elenchus resume r` goes on"), "{full}");
        let full = elenchus_remember::RememberError::Io {
            operation: "write",
            path: "journal".into(),
            source: ErrorKind::StorageFull.into(),
        };
        let full = said(full.into());
        assert!(full.contains("free some space, then `elenchus resume r`; what was done"), "{full}");
        assert!(!said(Failure::new(Code::Usage, "wrong", "right")).contains("resume"));
        for error in [LearnError::Interrupted.to_string(), GenerateError::Cancelled.to_string()] {
            assert!(error.contains("\nhint: "), "{error}");
        }
        assert!(Failure::from(std::io::Error::other("broken")).message.contains("\nhint: "));
    }
}
