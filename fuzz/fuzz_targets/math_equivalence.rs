//! Pairs of answers, divided by the first line break, under options that the first byte picks.

#![no_main]

use elenchus_task::math::{Extractor, Options, Relation, equivalent, extract};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&switches, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let (gold, pred) = text.split_once('\n').unwrap_or((text, text));
    let on = |bit: u8| switches & (1 << bit) != 0;
    let mut options = Options {
        strict: on(0),
        allow_set_relation_comp: on(1),
        bare: on(2),
        scientific: on(3),
        lowercase: on(4),
        boxed_match_priority: if on(5) { 0 } else { 50 },
        ..Options::default()
    };
    if on(6) {
        options.extract = vec![Extractor::String, Extractor::Latex, Extractor::Expr];
    }
    let _ = equivalent(gold, pred, &options);
    if extract(gold, &options).is_some_and(|found| !found.text.is_empty()) {
        let itself = equivalent(gold, gold, &options);
        assert_eq!(
            itself.relation,
            Relation::Equivalent,
            "{gold:?} does not equal itself: {}",
            itself.reason
        );
    }
});
