//! Each importer on small invented rows, and all of them on the real files where these are there.

use super::*;
use serde_json::{Value, json};

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// Imports `text` with the importer of this name.
fn import(name: &str, text: &str, settings: &ImportSettings) -> Result<Imported> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source.jsonl");
    std::fs::write(&path, text).unwrap();
    importer(name).unwrap().import(&path, settings)
}

fn imported(name: &str, rows: &[Value]) -> Imported {
    import(name, &lines(rows), &ImportSettings::default()).unwrap()
}

fn message(name: &str, rows: &[Value]) -> String {
    import(name, &lines(rows), &ImportSettings::default()).unwrap_err().to_string()
}

fn samples(imported: &Imported) -> &[SampleRow] {
    match &imported.rows {
        Rows::Samples(rows) => rows,
        other => panic!("not samples: {other:?}"),
    }
}

fn judgements(imported: &Imported) -> &[JudgementRow] {
    match &imported.rows {
        Rows::Judgements(rows) => rows,
        other => panic!("not judgements: {other:?}"),
    }
}

fn field(name: &str) -> ImportSettings {
    ImportSettings { field: Some(name.into()), ..ImportSettings::default() }
}

fn cotuq_row() -> Value {
    json!({"id": "temp_1", "question": "2+3?", "gold": 5.0, "samples": [
        {"method": "CoT", "run": 0, "text": "2+3=5", "answer": "5", "correct": true, "answer_token_probs": [0.5, 0.5],
         "keyword_token_probs": {}, "conf": {"probas-mean-bl": 0.75, "p-true-bl": 0.9, "self-probing-bl": null}},
        {"method": "CoD", "run": 1, "text": "6", "answer": "6", "correct": false, "answer_token_probs": [],
         "keyword_token_probs": {}, "conf": {"probas-mean-bl": 0.25, "p-true-bl": 0.4, "self-probing-bl": 1.0}}]})
}

#[test]
fn cotuq_keeps_answer_probabilities_and_the_chosen_confidence() {
    let found = imported("cotuq", &[cotuq_row()]);
    let row = &samples(&found)[0];
    assert_eq!((row.id.as_str(), row.gold.as_deref()), ("temp_1", Some("5")), "5.0 is the answer 5");
    let half = 0.5_f64.ln();
    assert_eq!(
        row.samples[0].sum_logprob,
        Some(2.0 * half),
        "the sum over two tokens of probability one half"
    );
    assert_eq!(row.samples[0].mean_logprob, Some(half));
    assert_eq!(row.samples[1].mean_logprob, None, "no token was recorded, so there is no mean");
    assert_eq!(row.samples[0].score, Some(0.75), "the first field is the default");
    assert_eq!(row.samples[1].extra["method"], "CoD");
    let chosen = import("cotuq", &lines(&[cotuq_row()]), &field("self-probing-bl")).unwrap();
    let scores: Vec<Option<f64>> = samples(&chosen)[0].samples.iter().map(|s| s.score).collect();
    assert_eq!(scores, [None, Some(1.0)], "what was not recorded stays absent");
}

#[test]
fn cotuq_judgements_leave_out_what_was_not_recorded_and_say_so() {
    let found = import("cotuq-judgements", &lines(&[cotuq_row()]), &field("self-probing-bl")).unwrap();
    let rows = judgements(&found);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].id.as_str(), rows[0].confidence, rows[0].correct), ("temp_1/CoD/1", 1.0, false));
    assert_eq!(found.notes, ["1 answers without `self-probing-bl` left out"]);
    let nowhere = import("cotuq-judgements", &lines(&[cotuq_row()]), &field("token-sar")).unwrap_err();
    assert!(nowhere.to_string().contains("records `token-sar` for no answer"), "{nowhere}");
}

#[test]
fn refused_numbers_name_file_line_and_field_and_can_be_skipped() {
    let mut zero = cotuq_row();
    zero["samples"][0]["answer_token_probs"] = json!([0.5, 0.0]);
    let said = message("cotuq", &[cotuq_row(), zero.clone()]);
    assert!(said.contains("source.jsonl` line 2, field `samples[0].answer_token_probs[1]`"), "{said}");
    assert!(said.contains("hint:"), "{said}");
    let text = format!("nonsense\n{}{}", lines(&[zero]), lines(&[cotuq_row()]));
    let skip = ImportSettings { skip_bad_lines: true, ..ImportSettings::default() };
    let found = import("cotuq", &text, &skip).unwrap();
    assert_eq!((found.rows.len(), found.skipped_count), (1, 2));
    let numbers: Vec<u64> = found.skipped.iter().map(|bad| bad.line).collect();
    assert_eq!(numbers, [1, 2], "unreadable and refused lines are counted alike");
    let mut percent = cotuq_row();
    percent["samples"][1]["conf"]["probas-mean-bl"] = json!(25);
    let said = message("cotuq-judgements", &[percent]);
    assert!(said.contains("field `samples[1].conf.probas-mean-bl`: 25 is not between 0 and 1"), "{said}");
    let said = import("cotuq", "{\"id\": 1}\n", &skip).unwrap_err().to_string();
    assert!(said.contains("has no rows (1 broken lines were left out)"), "{said}");
}

#[test]
fn a_field_of_the_wrong_type_is_named() {
    let row = json!({"id": 0, "question": "", "gold": "1", "samples": [{"text": "", "answer": "1", "correct": "yes", "rm": 1}]});
    let said = message("qwen-math-rm", &[row]);
    assert!(said.contains("line 1") && said.contains("`samples[0].correct`"), "{said}");
}

#[test]
fn qwen_rewards_are_scores() {
    let row = json!({"id": 3, "question": "1+1", "gold": "2", "level": "Level 3", "samples": [
        {"text": "so 2", "answer": "2", "correct": true, "rm": -1.5}]});
    let found = imported("qwen-math-rm", &[row]);
    let row = &samples(&found)[0];
    assert_eq!(
        (row.id.as_str(), row.samples[0].score, row.samples[0].correct),
        ("3", Some(-1.5), Some(true))
    );
    assert_eq!(row.extra["level"], "Level 3");
}

#[test]
fn codet_classes_are_programs_that_pass_the_same_tests() {
    let folder = tempfile::tempdir().unwrap();
    let (matrix, programs) = (folder.path().join("matrix.jsonl"), folder.path().join("programs.jsonl"));
    let tests = json!({"task_id": "H/0", "tests": ["assert f(1)", "assert f(2)"], "counts": [3, 1],
        "matrix": ["01", "11", "01", "00"]});
    std::fs::write(&matrix, lines(std::slice::from_ref(&tests))).unwrap();
    let code = |task: &str, pass: Value| json!({"task_id": task, "prompt": "def f", "samples": ["a", "b", "c", "d"], "pass": pass});
    std::fs::write(&programs, lines(&[code("H/1", json!([0, 0, 0, 0])), code("H/0", json!([0, 1, 1, 0]))]))
        .unwrap();
    let settings = ImportSettings { with: Some(programs.clone()), ..ImportSettings::default() };
    let codet = importer("codet").unwrap();
    let found = codet.import(&matrix, &settings).unwrap();
    let row = &samples(&found)[0];
    let answers: Vec<&str> = row.samples.iter().filter_map(|s| s.answer.as_deref()).collect();
    assert_eq!(answers, ["1", "2", "1", "4"]);
    let scores: Vec<f64> = row.samples.iter().filter_map(|s| s.score).collect();
    assert_eq!(scores, [1.0, 2.0, 1.0, 0.0], "class 1 weighs 2 x 1, class 2 weighs 1 x 2");
    assert_eq!(row.samples[2].correct, Some(true));
    assert_eq!(found.notes, ["1 problems without own tests left out"]);

    let mut short = tests.clone();
    short["matrix"][1] = json!("1");
    std::fs::write(&matrix, lines(&[short])).unwrap();
    let said = codet.import(&matrix, &settings).unwrap_err().to_string();
    assert!(said.contains("line 1, field `matrix[1]`: is not a text of 2 marks"), "{said}");
    std::fs::write(&matrix, lines(&[tests.clone(), tests])).unwrap();
    let said = codet.import(&matrix, &settings).unwrap_err().to_string();
    assert!(said.contains("line 2, field `task_id`"), "{said}");
    std::fs::write(&programs, lines(&[code("H/0", json!([0, 2, 1, 0]))])).unwrap();
    let said = codet.import(&matrix, &settings).unwrap_err().to_string();
    assert!(said.contains("programs.jsonl` line 1, field `pass[1]`"), "{said}");
}

#[test]
fn votes_that_were_not_read_are_no_answers() {
    let row = json!({"task": "t", "response_model": "m", "critic": "c", "id": "i", "label": "error",
        "votes": ["error", null, "no_error"], "majority": "error", "critiques": ["bad", null, "fine"]});
    let found = imported("realmistake", std::slice::from_ref(&row));
    let found = &samples(&found)[0];
    assert_eq!((found.id.as_str(), found.gold.as_deref()), ("c/i", Some("error")));
    let told: Vec<_> = found.samples.iter().map(|s| (s.answer.as_deref(), s.correct)).collect();
    assert_eq!(told, [(Some("error"), Some(true)), (Some(""), None), (Some("no_error"), Some(false))]);
    let mut odd = row;
    odd["votes"][0] = json!("maybe");
    assert!(message("realmistake", &[odd]).contains("`votes[0]`"));
}

#[test]
fn only_the_constant_system_is_known_to_be_wrong() {
    let row = |preference: f64| {
        json!({"instruction": "Sing", "dataset": "d", "baseline": "b", "judged": {
        "phi": {"preference": 1.25, "len_model": 7}, "NullModel": {"preference": preference, "len_model": 9}}})
    };
    let found = imported("alpaca-eval", &[row(2.0)]);
    let told: Vec<_> =
        samples(&found)[0].samples.iter().map(|s| (s.answer.as_deref(), s.score, s.correct)).collect();
    assert_eq!(told, [(Some("NullModel"), Some(1.0), Some(false)), (Some("phi"), Some(0.25), None)]);
    assert!(message("alpaca-eval", &[row(2.5)]).contains("`judged.NullModel.preference`: 2.5"));
}

#[test]
fn the_place_of_a_response_follows_from_the_letters() {
    let row = |preference: f64, m: f64, other: f64| {
        json!({"instruction": "Sing", "dataset": "d", "baseline": "b", "judged": {"phi": {"preference": preference,
            "len_model": 7, "len_baseline": 9, "judge_top_logprobs": {"m": m.ln(), "M": other.ln(), "The": -9.0}}}})
    };
    // P(m) = 0.8: a preference of 0.8 says that `m` is the system, one of 0.2 that it is the baseline; 0.5 says nothing.
    let found =
        imported("alpaca-eval-verdicts", &[row(1.8, 0.8, 0.2), row(1.2, 0.8, 0.2), row(1.5, 0.5, 0.5)]);
    let Rows::Verdicts(rows) = &found.rows else { panic!("verdicts") };
    let told: Vec<_> = rows.iter().map(|r| (r.id.as_str(), r.lengths, r.reference)).collect();
    assert_eq!(told, [("1/phi", Some([7.0, 9.0]), None), ("2/phi", Some([9.0, 7.0]), None)]);
    assert!(rows.iter().all(|row| (row.first.unwrap() - 0.8).abs() < 1e-9), "the first is `m` in both");
    assert_eq!((&rows[0].extra["model_first"], &rows[1].extra["model_first"]), (&json!(true), &json!(false)));
    assert_eq!(found.notes, ["1 comparisons do not tell which response the judge saw first"]);
    // A preference that is neither is not forced into one.
    assert!(message("alpaca-eval-verdicts", &[row(2.5, 0.8, 0.2)]).contains("`judged.phi.preference`: 2.5"));
    let people = |label: u8| json!({"scenario": "s", "label": label, "prompt": "p", "response_1": "ab", "response_2": "äöü"});
    let found = imported("autoj-verdicts", &[people(0), people(1), people(2)]);
    let Rows::Verdicts(rows) = &found.rows else { panic!("verdicts") };
    let told: Vec<_> = rows.iter().map(|r| (r.first, r.lengths)).collect();
    let lengths = Some([2.0, 3.0]);
    assert_eq!(told, [(Some(1.0), lengths), (Some(0.0), lengths), (Some(0.5), lengths)]);
}

#[test]
fn ties_of_people_have_no_reference() {
    let row = |label: u8| json!({"scenario": "s", "label": label, "prompt": "p", "response_1": "ab", "response_2": "äöü"});
    let found = imported("autoj-pairs", &[row(1), row(2)]);
    let rows = samples(&found);
    assert_eq!((rows[0].gold.as_deref(), rows[1].gold.as_deref()), (Some("2"), None));
    assert_eq!(rows[0].samples[0].correct, Some(false));
    assert_eq!(
        (rows[0].samples[1].score, rows[0].samples[1].correct),
        (Some(3.0), Some(true)),
        "characters, not bytes"
    );
    assert_eq!(rows[1].samples[0].correct, None);
    assert_eq!(found.notes, ["1 ties have no reference"]);
    assert!(message("autoj-pairs", &[row(1), row(3)]).contains("line 2, field `label`: 3"));
}

#[test]
fn the_outcome_is_the_confidence_in_the_process() {
    let row = |label: i64, right: bool| {
        json!({"id": "g-1", "generator": "m", "problem": "p", "steps": ["a", "b"],
        "final_answer_correct": right, "label": label})
    };
    let found = imported("processbench", &[row(-1, true), row(1, true), row(0, false)]);
    let told: Vec<_> = judgements(&found).iter().map(|j| (j.confidence, j.correct)).collect();
    assert_eq!(told, [(1.0, true), (1.0, false), (0.0, false)]);
    for label in [2, -2] {
        assert!(message("processbench", &[row(label, false)]).contains("field `label`"), "{label}");
    }
}

#[test]
fn critics_steps_and_reasons() {
    let row = |step: Value, grade: &str| {
        json!({"uuid": "u", "critic": "c", "model_output_solution_first_error_step": 3,
        "critique": {"response": "", "correctness_pred": "wrong", "error_step_pred": step, "error_reason": ""},
        "error_reason_correctness": grade})
    };
    let rows =
        [row(json!("Step 3"), "correct"), row(json!(12), "incorrect"), row(json!(" N/A "), "incorrect")];
    let found = imported("mr-gsm8k-steps", &rows);
    let Rows::Pairs(pairs) = &found.rows else { panic!("not pairs") };
    let told: Vec<_> = pairs.iter().map(|p| (p.gold.as_str(), p.pred.as_str())).collect();
    assert_eq!(told, [("3", "3"), ("3", "12"), ("3", "N/A")]);
    assert_eq!(pairs[0].extra["reason_correct"], true);
    let found = imported("mr-gsm8k-reasons", &rows);
    let told: Vec<_> = judgements(&found).iter().map(|j| (j.confidence, j.correct)).collect();
    assert_eq!(told, [(1.0, true), (1.0, false), (1.0, false)]);
    let said = message("mr-gsm8k-reasons", &[row(json!("1"), "half")]);
    assert!(said.contains("`error_reason_correctness`") && said.contains("`half`"), "{said}");
}

#[test]
fn realcritic_solutions_are_the_only_samples() {
    let row = json!({"id": 7, "question": "1+1?", "gold": "2", "model": "m", "solution": "so 3", "pred": "3",
        "correct": false, "answer_type": "Numerical", "unit": null});
    let bare = json!({"id": "x", "question": "1+1?", "gold": 2, "model": "m", "solution": "2", "pred": " ", "correct": true});
    let found = imported("realcritic", &[row, bare]);
    let rows = samples(&found);
    assert_eq!((rows[0].id.as_str(), rows[0].samples.len()), ("7", 1));
    let sample = &rows[0].samples[0];
    assert_eq!(
        (sample.text.as_str(), sample.answer.as_deref(), sample.correct),
        ("so 3", Some("3"), Some(false))
    );
    assert_eq!((&sample.extra["model"], &rows[0].extra["answer_type"]), (&json!("m"), &json!("Numerical")));
    assert_eq!(
        (rows[1].gold.as_deref(), &rows[1].samples[0].answer),
        (Some("2"), &None),
        "a blank is no answer"
    );
}

fn mint_row(by: &str, form: Option<&str>, turns: u64, outcomes: Value) -> Value {
    json!({"model": "m", "feedback_by": by, "feedback_form": form, "max_turns": turns, "task": "gsm8k", "rows": outcomes})
}

#[test]
fn mint_outcomes_stand_side_by_side() {
    let rows = [
        mint_row(
            "gpt-4-0613",
            Some("no_GT-textual"),
            5,
            json!([[1, 1, 3, 1, "task_success"], [9, 1, 2, 1, "task_success"]]),
        ),
        mint_row("None", None, 5, json!([[1, 0, 5, 2, "max_steps"], ["a/b", 1, 1, 1, "task_success"]])),
        mint_row("None", None, 1, json!([[1, 0, 1, 0, "max_steps"]])),
        mint_row("gpt-4-0613", Some("GT-textual"), 5, json!([["a/b", 0, 5, 0, "error"]])),
    ];
    let found = imported("mint", &rows);
    let [row] = samples(&found) else { panic!("one task has both conditions: {found:?}") };
    assert_eq!(row.id, "m/gsm8k/1");
    let right: Vec<Option<bool>> = row.samples.iter().map(|sample| sample.correct).collect();
    assert_eq!(right, [Some(false), Some(true)], "without feedback first, whatever the order of the file");
    assert_eq!(row.samples[1].extra["stop"], "task_success");
    assert_eq!(found.notes, ["2 tasks that are not recorded once under every condition left out"]);
    let other = import("mint", &lines(&rows), &field("gpt-4-0613/GT-textual")).unwrap();
    assert_eq!(samples(&other)[0].id, "m/gsm8k/a/b");
    let nowhere =
        import("mint", &lines(&rows), &field("claude-instant-1/no_GT-textual")).unwrap_err().to_string();
    assert!(nowhere.contains("no task under both conditions") && nowhere.contains("hint:"), "{nowhere}");
    let all: Vec<Value> =
        (1..=5).map(|n| mint_row("None", None, n, json!([[1, n / 3, n, 1, "max_steps"]]))).collect();
    let turns = import("mint", &lines(&all), &field("turns")).unwrap();
    let right: Vec<Option<bool>> = samples(&turns)[0].samples.iter().map(|sample| sample.correct).collect();
    assert_eq!(right, [Some(false), Some(false), Some(true), Some(true), Some(true)]);
    let odd = message("mint", &[mint_row("None", None, 5, json!([[1, 2, 5, 1, "max_steps"]]))]);
    assert!(odd.contains("`rows[0][1]`: 2 is neither 0 nor 1"), "{odd}");
}

#[test]
fn verify_cot_samples_and_chains() {
    let row = json!({"question": "q", "gold": "yz", "majority": ["yz"], "samples": [
        {"text": "so yz", "answer": "yz", "correct": true}, {"text": "hm", "answer": "No answer!", "correct": false}]});
    let found = imported("verify-cot", &[row]);
    let row = &samples(&found)[0];
    assert_eq!((row.id.as_str(), &row.extra["majority"]), ("1", &json!(["yz"])));
    let answers: Vec<Option<&str>> = row.samples.iter().map(|sample| sample.answer.as_deref()).collect();
    assert_eq!(answers, [Some("yz"), None], "no answer is no vote");
    let chain = |correct: bool, flag: u8| json!({"question": "q", "answer": "#1.", "final_answer": 7, "correct": correct, "flag": flag});
    let found = imported("verify-cot-chains", &[chain(true, 1), chain(true, 0), chain(false, 0)]);
    let told: Vec<_> = judgements(&found).iter().map(|j| (j.confidence, j.correct)).collect();
    assert_eq!(told, [(1.0, true), (1.0, false), (0.0, false)]);
    assert!(message("verify-cot-chains", &[chain(true, 2)]).contains("`flag`: 2"));
}

/// The offline check of the closed-loop protocol: a critic that restates the recorded solution is right as often as they
/// are, 449 of the 879 that are here.
#[test]
fn the_parrot_on_the_recorded_solutions_of_realcritic() {
    let data = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/realcritic"));
    let counted = [
        ("arc-challenge.jsonl", 117, 62),
        ("college_math.jsonl", 139, 74),
        ("gsm8k.jsonl", 114, 58),
        ("math.jsonl", 128, 63),
        ("minerva_math.jsonl", 118, 62),
        ("mmlu_stem.jsonl", 132, 69),
        ("olympiadbench.jsonl.gz", 131, 61),
    ];
    for (file, items, right) in counted {
        let path = data.join(file);
        if !path.exists() {
            eprintln!("skipped: realcritic/{file} is not there");
            continue;
        }
        let found = importer("realcritic").unwrap().import(&path, &ImportSettings::default()).unwrap();
        let rows = samples(&found);
        let parrot = rows.iter().filter(|row| row.samples[0].correct == Some(true)).count();
        assert_eq!((rows.len(), parrot), (items, right), "{file}");
    }
    assert_eq!(counted.iter().map(|row| row.1).sum::<usize>(), 879);
    assert_eq!(counted.iter().map(|row| row.2).sum::<usize>(), 449);
}

#[test]
fn settings_without_meaning_are_errors_with_a_hint() {
    let path = Path::new("absent.jsonl");
    let with = ImportSettings { with: Some("x".into()), ..ImportSettings::default() };
    for (name, settings, word) in [
        ("cotuq", field("p-tru-bl"), "`p-true-bl`"),
        ("autoj-pairs", field("x"), "no choice of `--field`"),
        ("cotuq", with, "reads one file only"),
        ("codet", ImportSettings::default(), "`--with FILE`"),
    ] {
        let said = importer(name).unwrap().import(path, &settings).unwrap_err().to_string();
        assert!(said.contains(word) && said.contains("hint:"), "{said}");
    }
    let said = importer("cotug").unwrap_err().to_string();
    assert!(said.contains("`cotuq`") && said.contains("hint:"), "{said}");
    assert!(importer("mr_gsm8k_steps").is_ok(), "`_` and `-` are the same");
}

#[test]
fn names_are_unique_and_everything_is_described() {
    for (index, one) in IMPORTERS.iter().enumerate() {
        assert!(IMPORTERS[..index].iter().all(|other| other.name != one.name), "{}", one.name);
        assert!(!one.reads.is_empty() && !one.summary.is_empty(), "{}", one.name);
    }
}

/// Every real file is read without a broken line, and our readers take what is written.
#[test]
fn real_files_are_imported_whole() {
    let data = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let folder = tempfile::tempdir().unwrap();
    let mut read = 0;
    for (name, file, with, rows) in [
        ("cotuq", "rec_cotuq_llama31_8b/gsm8k.jsonl.gz", None, 595),
        ("cotuq", "rec_cotuq_llama31_8b/2wiki.jsonl.gz", None, 773),
        ("cotuq-judgements", "rec_cotuq_llama31_8b/svamp.jsonl.gz", None, 4462),
        ("qwen-math-rm", "rec_qwen_math_rm8/samples.jsonl.gz", None, 50),
        (
            "codet",
            "rec_codet_codegen16b/generated_tests_matrix.jsonl.gz",
            Some("rec_codet_codegen16b/humaneval_100samples.jsonl.gz"),
            82,
        ),
        ("realmistake", "rec_realmistake_votes/self_consistency5.jsonl.gz", None, 174),
        ("alpaca-eval", "rec_alpaca_eval_judge/weighted_gpt4_turbo.jsonl.gz", None, 402),
        ("alpaca-eval-verdicts", "rec_alpaca_eval_judge/weighted_gpt4_turbo.jsonl.gz", None, 6797),
        ("autoj-pairs", "rec_autoj_pairwise_human/pairs.jsonl.gz", None, 642),
        ("autoj-verdicts", "rec_autoj_pairwise_human/pairs.jsonl.gz", None, 642),
        ("processbench", "processbench/gsm8k.jsonl", None, 185),
        ("processbench", "processbench/olympiadbench.jsonl.gz", None, 487),
        ("mr-gsm8k-steps", "rec_mr_gsm8k_critics/gpt3_5.jsonl", None, 72),
        ("mr-gsm8k-reasons", "rec_mr_gsm8k_critics/claude.jsonl.gz", None, 151),
        ("realcritic", "realcritic/gsm8k.jsonl", None, 114),
        ("realcritic", "realcritic/olympiadbench.jsonl.gz", None, 131),
        ("mint", "rec_mint_multiturn/per_task_success.jsonl.gz", None, 7098),
        ("verify-cot", "rec_verify_cot_chatgpt/date_10samples.jsonl.gz", None, 146),
        ("verify-cot", "rec_verify_cot_chatgpt/addsub_seq.jsonl.gz", None, 4),
        ("verify-cot-chains", "rec_verify_cot_chatgpt/human_annotated_gsm8k.jsonl", None, 39),
        ("verify-cot-chains", "rec_verify_cot_chatgpt/human_annotated_aqua_rat.jsonl", None, 42),
    ] {
        let path = data.join(file);
        if !path.exists() {
            eprintln!("skipped: {file} is not there");
            continue;
        }
        let settings =
            ImportSettings { with: with.map(|with: &str| data.join(with)), ..ImportSettings::default() };
        let found = importer(name).unwrap().import(&path, &settings).unwrap();
        assert_eq!((found.rows.len(), found.skipped_count), (rows, 0), "{name} {file}");
        let out = folder.path().join("out.jsonl.gz");
        found.rows.write(&out).unwrap();
        let options = JsonlOptions::default();
        let again = match &found.rows {
            Rows::Samples(_) => Rows::Samples(crate::data::read_jsonl(&out, &options).unwrap().rows),
            Rows::Judgements(_) => Rows::Judgements(crate::data::read_jsonl(&out, &options).unwrap().rows),
            Rows::Pairs(_) => Rows::Pairs(crate::data::read_jsonl(&out, &options).unwrap().rows),
            Rows::Verdicts(_) => Rows::Verdicts(crate::data::read_jsonl(&out, &options).unwrap().rows),
        };
        assert_eq!(again.len(), rows, "{name} {file}: our reader takes every row");
        read += 1;
    }
    if read == 0 {
        eprintln!("skipped: no recorded set is there");
    }
}
