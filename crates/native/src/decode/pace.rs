//! How a pass is divided between threads: measured, not guessed.
//!
//! The bits of a result are the same however the work is divided, so the division may follow the machine: small
//! passes and busy machines, where a thread that waits for its core holds up all others, are faster on one thread.

/// A way to divide a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Division {
    /// One thread does all.
    Alone,
    /// Each thread has its own columns and heads of all rows; they meet four times in each block.
    Columns,
    /// Each thread has its own rows; they meet at the end.
    Rows,
}

const DIVISIONS: [Division; 3] = [Division::Alone, Division::Columns, Division::Rows];

/// After so many passes of one size, another division is tried once: it costs at most a few per cent.
const TRY_EVERY: u32 = 48;

/// How much slower a division is that is tried more rarely.
const FAR: f64 = 3.0;

/// Times that are kept for each division.
const RECENT: usize = 5;

/// A division is tried this often before it is judged.
const FIRST_TRIES: usize = 2;

/// The last times of one division, seconds for each row.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    recent: [f64; RECENT],
    count: usize,
}

impl Times {
    fn note(&mut self, seconds: f64) {
        self.recent[self.count % RECENT] = seconds;
        self.count += 1;
    }

    /// Mean without the longest: a core that was taken away once says nothing about the division, twice it does.
    /// 0 when there are too few to judge.
    fn usual(&self) -> f64 {
        let known = &self.recent[..self.count.min(RECENT)];
        if known.len() < FIRST_TRIES {
            return 0.0;
        }
        let longest = known.iter().copied().fold(0.0, f64::max);
        (known.iter().sum::<f64>() - longest) / (known.len() - 1) as f64
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Size {
    passes: u32,
    /// By division.
    times: [Times; DIVISIONS.len()],
}

/// Times of passes by their size.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// By whether rows depend on each other, and by the power of two of their number.
    sizes: [[Size; 16]; 2],
    /// For tests: the only division where it is possible, one thread where not.
    #[cfg(test)]
    pub(super) only: Option<Division>,
}

fn bucket(rows: usize) -> usize {
    (rows.ilog2() as usize).min(15)
}

impl Pace {
    /// The division of the next pass. Rows that depend on each other cannot be given to different threads.
    pub(super) fn choose(&mut self, rows: usize, chained: bool, threads: usize) -> Division {
        if threads == 1 {
            return Division::Alone;
        }
        let possible = |division: Division| match division {
            Division::Rows => !chained && rows >= threads,
            _ => true,
        };
        #[cfg(test)]
        if let Some(only) = self.only {
            return if possible(only) { only } else { Division::Alone };
        }
        let size = &mut self.sizes[usize::from(chained)][bucket(rows)];
        size.passes += 1;
        let mut places: Vec<usize> =
            (0..DIVISIONS.len()).filter(|&place| possible(DIVISIONS[place])).collect();
        // What is not measured has 0 seconds and comes first.
        places.sort_by(|&a, &b| size.times[a].usual().total_cmp(&size.times[b].usual()));
        let (best, others) = (places[0], places.len() - 1);
        if others == 0 || !size.passes.is_multiple_of(TRY_EVERY) {
            return DIVISIONS[best];
        }
        let turn = (size.passes / TRY_EVERY) as usize;
        let other = places[1 + turn % others];
        // What is far slower is tried more rarely.
        let far = size.times[other].usual() > FAR * size.times[best].usual();
        DIVISIONS[if far && !(turn / others).is_multiple_of(8) { best } else { other }]
    }

    /// Notes how long a pass took.
    pub(super) fn record(&mut self, rows: usize, chained: bool, division: Division, seconds: f64) {
        let size = &mut self.sizes[usize::from(chained)][bucket(rows)];
        let Some(place) = DIVISIONS.iter().position(|&other| other == division) else { return };
        size.times[place].note((seconds / rows as f64).max(f64::MIN_POSITIVE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each division is chosen when passes take these seconds.
    fn chosen(seconds: [f64; 3], chained: bool, passes: usize, pace: &mut Pace) -> [usize; 3] {
        let mut counts = [0; 3];
        for _ in 0..passes {
            let division = pace.choose(8, chained, 2);
            let place = DIVISIONS.iter().position(|&other| other == division).unwrap();
            counts[place] += 1;
            pace.record(8, chained, division, seconds[place]);
        }
        counts
    }

    #[test]
    fn the_fastest_division_is_used_and_found_again() {
        let mut pace = Pace::default();
        let counts = chosen([3.0, 1.0, 2.0], false, 1000, &mut pace);
        assert!(counts[1] > 960 && counts[0] > 5 && counts[2] > 5, "{counts:?}");
        // One long pass changes nothing.
        pace.record(8, false, Division::Columns, 1e6);
        let counts = chosen([3.0, 1.0, 2.0], false, 500, &mut pace);
        assert!(counts[1] > 480, "{counts:?}");
        // The machine changes.
        let counts = chosen([1.0, 5.0, 4.0], false, 2000, &mut pace);
        assert!(counts[0] > 1700, "{counts:?}");
    }

    #[test]
    fn rows_that_depend_on_each_other_stay_together() {
        let counts = chosen([3.0, 2.0, 1.0], true, 500, &mut Pace::default());
        assert_eq!(counts[2], 0);
        assert_eq!(Pace::default().choose(1, false, 1), Division::Alone);
        let mut few = Pace::default();
        for _ in 0..100 {
            let division = few.choose(1, false, 2);
            assert!(division != Division::Rows, "one row cannot be divided by rows");
            few.record(1, false, division, 1.0);
        }
    }
}
