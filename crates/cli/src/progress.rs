//! The live display: round, phase, tokens per second, time left.

use crate::output::percent;
use elenchus_learn::rounds::RoundReport;
use elenchus_learn::{Observer, StopFlag};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

struct Phase {
    begun: Instant,
    tokens: usize,
    /// Work that came from the journal says nothing about speed.
    replayed: usize,
}

/// Draws progress on standard error and prints a line per round.
pub struct Display {
    bar: ProgressBar,
    quiet: bool,
    rounds: usize,
    phase: Mutex<Phase>,
    samples: usize,
}

impl Display {
    /// A display for an experiment with this many rounds and samples per held-out problem.
    pub fn new(rounds: usize, samples: usize, quiet: bool) -> Self {
        let bar = ProgressBar::new(0);
        if quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) =
            ProgressStyle::with_template("{prefix:>24} {bar:32} {pos}/{len} {msg} {eta_precise} left")
        {
            bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
        let phase = Mutex::new(Phase { begun: Instant::now(), tokens: 0, replayed: 0 });
        Display { bar, quiet, rounds, phase, samples }
    }

    /// Prints a line above the bar; nothing when nobody wants to watch.
    pub fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        if self.bar.is_hidden() { anstream::eprintln!("{text}") } else { self.bar.println(text) }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Display {
    fn phase(&self, round: usize, name: &str, units: usize) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) =
            Phase { begun: Instant::now(), tokens: 0, replayed: 0 };
        self.bar.reset();
        self.bar.set_length(units as u64);
        let round = if self.rounds == 0 { String::new() } else { format!("round {round}/{} ", self.rounds) };
        self.bar.set_prefix(format!("{round}{name}"));
        self.bar.set_message("");
    }

    fn advance(&self, units: usize, tokens: usize, replayed: bool) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if replayed {
            phase.replayed += units;
        } else {
            phase.tokens += tokens;
        }
        let seconds = phase.begun.elapsed().as_secs_f64();
        let rate = phase.tokens as f64 / seconds.max(1e-3);
        let from_journal = if phase.replayed > 0 { " (part from the journal)" } else { "" };
        self.bar.set_message(format!("{:.1}k tokens/s{from_journal}", rate / 1000.0));
        self.bar.inc(units as u64);
    }

    fn round(&self, r: &RoundReport) {
        let chosen = match (r.temperature, r.threshold, r.balance) {
            (Some(t), Some(tau), Some(balance)) => {
                format!("  T {t:.1}  τ {tau:+.1}  balance {balance:.3}  {} rows", r.rows)
            }
            _ => String::new(),
        };
        // Several experiments with different numbers of samples may share one display.
        let at = if self.samples == 0 { String::new() } else { format!("@{}", self.samples) };
        self.line(&format!(
            "round {}  greedy {}  vote{at} {:.1} %  pass{at} {:.1} %  right by wrong steps {:.1} %{chosen}  {:.1}k tokens  {:.0} s",
            r.round,
            percent(&r.greedy),
            100.0 * r.vote.value,
            100.0 * r.pass.value,
            100.0 * r.wrong_steps,
            r.tokens as f64 / 1000.0,
            r.seconds,
        ));
    }

    fn note(&self, text: &str) {
        self.line(text);
    }
}

/// Ctrl-C asks to stop at the next safe point; a second one ends the process at once (the journal stays whole).
pub fn stop_on_interrupt() -> StopFlag {
    let flag = StopFlag::default();
    let asked = flag.clone();
    let result = ctrlc::set_handler(move || {
        if asked.stopped() {
            std::process::exit(130);
        }
        asked.stop();
        anstream::eprintln!("\nstopping at the next safe point; press Ctrl-C again to end at once");
    });
    if let Err(error) = result {
        anstream::eprintln!(
            "warning: Ctrl-C cannot be caught ({error}); finished units of work are kept all the same"
        );
    }
    flag
}
