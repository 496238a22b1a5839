//! Answers as a model may write them, through the parser and the extractors.

#![no_main]

use elenchus_task::math::{Options, extract, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = parse(text);
    for options in [Options::default(), Options { bare: false, strict: false, ..Options::default() }] {
        let _ = extract(text, &options);
    }
});
