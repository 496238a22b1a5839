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

/// Weight of the newest time in the running mean.
const NEWEST: f64 = 0.25;

#[derive(Debug, Clone, Copy, Default)]
struct Size {
    passes: u32,
    /// Running mean of the seconds for each row, by division; 0 is not measured.
    seconds: [f64; DIVISIONS.len()],
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
        places.sort_by(|&a, &b| size.seconds[a].total_cmp(&size.seconds[b]));
        // What is not measured has 0 seconds and comes first.
        let turn = size.passes / TRY_EVERY;
        let place = if size.passes.is_multiple_of(TRY_EVERY) && places.len() > 1 {
            1 + turn as usize % (places.len() - 1)
        } else {
            0
        };
        DIVISIONS[places[place]]
    }

    /// Notes how long a pass took.
    pub(super) fn record(&mut self, rows: usize, chained: bool, division: Division, seconds: f64) {
        let size = &mut self.sizes[usize::from(chained)][bucket(rows)];
        let Some(place) = DIVISIONS.iter().position(|&other| other == division) else { return };
        let (newest, mean) = ((seconds / rows as f64).max(f64::MIN_POSITIVE), &mut size.seconds[place]);
        *mean = if *mean == 0.0 { newest } else { *mean + NEWEST * (newest - *mean) };
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
        // The machine changes.
        let counts = chosen([1.0, 5.0, 4.0], false, 2000, &mut pace);
        assert!(counts[0] > 1500, "{counts:?}");
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
