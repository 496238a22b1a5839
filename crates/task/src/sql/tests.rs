use super::*;
use crate::Skill;
use crate::arithmetic::vocabulary;
use proptest::prelude::*;
use serde_json::json;

fn task() -> Sql {
    Sql::open(SqlSettings::default()).unwrap()
}

#[test]
fn generated_problems_are_distinct_divided_and_solved_by_their_reference() {
    let task = task();
    let mut ids = HashSet::new();
    for split in [Split::Train, Split::Validation, Split::Test] {
        let problems = task.problems(split, 60, 3).unwrap();
        assert_eq!(problems, task.problems(split, 60, 3).unwrap(), "the seed decides");
        for problem in problems {
            assert!(ids.insert(problem.id.clone()), "in two splits or twice");
            let reference = task.reference(&problem).unwrap();
            assert_eq!(task.outcome(&problem, &reference).unwrap(), SqlOutcome::Correct, "{reference}");
            let gold = problem.gold.clone().unwrap();
            for response in [
                gold.clone(),
                format!("Here it is:\n```sql\n{gold};\n```\nIt joins the tables."),
                format!("Let me think.\nAnswer: {gold};"),
                format!("<think>SELECT nothing</think>\n{}", gold.to_lowercase()),
            ] {
                let verdict = task.verify(&problem, &response).unwrap();
                // Names of tables and columns know no case in SQLite; only keywords and names are changed here.
                assert!(verdict.is_correct(), "{response}: {:?}", verdict.reason);
            }
            let other = task.verify(&problem, "SELECT 'nothing of the kind'").unwrap();
            assert_eq!(other.outcome, Outcome::Wrong);
        }
    }
}

#[test]
fn compact_questions_and_queries_stay_in_the_vocabulary() {
    let letters: HashSet<String> = vocabulary().into_iter().collect();
    let task = task();
    let mut forms = HashSet::new();
    for problem in task.problems(Split::Train, 300, 4).unwrap() {
        for text in [Skill::Solve.prompt(&problem, &[]), task.reference(&problem).unwrap()] {
            assert!(text.chars().all(|c| letters.contains(&c.to_string())), "{text}");
        }
        let query = problem.data["query"].as_str().unwrap();
        forms
            .insert(query.chars().filter(|c| !c.is_ascii_digit() && !"<>-".contains(*c)).collect::<String>());
    }
    assert!(forms.len() >= 15, "{} forms of queries: {forms:?}", forms.len());
}

#[test]
fn the_compact_question_decides_the_compact_query() {
    // A model sees the compact question alone: two problems with the same one must want the same query.
    let mut wanted: HashMap<String, String> = HashMap::new();
    for problem in task().problems(Split::Train, 500, 5).unwrap() {
        let query = problem.data["query"].as_str().unwrap().to_string();
        let known = wanted.entry(problem.compact.clone().unwrap()).or_insert_with(|| query.clone());
        assert_eq!(*known, query, "{:?}", problem.compact);
    }
}

#[test]
fn every_way_to_fail_has_its_outcome() {
    let task = task();
    let problem = task.problems(Split::Test, 1, 1).unwrap().remove(0);
    let outcome = |response: &str| task.outcome(&problem, response).unwrap();
    assert_eq!(outcome("I do not know."), SqlOutcome::NoQuery);
    assert_eq!(outcome(""), SqlOutcome::NoQuery);
    assert!(matches!(outcome("SELECT nothing FROM nowhere"), SqlOutcome::Fault(QueryFault::Query(_))));
    assert!(matches!(outcome("SELECT load_extension('x')"), SqlOutcome::Fault(QueryFault::Refused(_))));
    assert!(matches!(outcome("```sql\nWITH x AS (SELECT 1) DELETE FROM x\n```"), SqlOutcome::Fault(_)));
    assert!(matches!(outcome("#Sq;Fx"), SqlOutcome::Fault(QueryFault::Query(_))));
    assert!(matches!(outcome("SELECT 1, 2, 3, 4, 5"), SqlOutcome::WrongResult { found: (5, 1), .. }));
    let reason = task.verify(&problem, "SELECT 1, 2, 3, 4, 5").unwrap().reason.unwrap();
    assert!(reason.starts_with("the result has 5 columns and 1 rows"), "{reason}");
    let slow = Sql::open(SqlSettings::from_value(&json!({"limits": {"seconds": 0.05}})).unwrap()).unwrap();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let found = slow.outcome(&problem, endless).unwrap();
    assert_eq!(found, SqlOutcome::Fault(QueryFault::Time("0.05".into())));
    assert_eq!(found.to_string(), "the query takes longer than 0.05 s");
}

#[test]
fn a_reference_that_fails_is_an_error_and_no_verdict() {
    let task = task();
    let mut problem = task.problems(Split::Test, 1, 1).unwrap().remove(0);
    problem.gold = Some("SELECT nothing FROM nowhere".into());
    let error = task.verify(&problem, "SELECT 1").unwrap_err().to_string();
    assert!(error.contains("reference query") && error.contains("hint:"), "{error}");
    let foreign = Problem::new("1", "arithmetic", "1+1?");
    assert!(task.verify(&foreign, "SELECT 2").is_err());
    let unknown = Problem { data: json!({"db": "nowhere"}), ..Problem::new("1", TASK, "?") };
    assert!(task.verify(&unknown, "SELECT 2").unwrap_err().to_string().contains("`nowhere`"));
}

#[test]
fn queries_vote_by_what_they_return_and_the_tool_asks_only_whether_they_run() {
    let task = task();
    let problem = task.problems(Split::Test, 1, 1).unwrap().remove(0);
    assert!(task.equivalent(&problem, "SELECT 1 + 1", "SELECT 2"));
    assert!(
        !task.equivalent(&problem, "SELECT 1", "SELECT 2") && !task.equivalent(&problem, "SELECT", "SELEC")
    );
    assert_eq!(task.recheck(&problem, "SELECT 1").unwrap().score(), Some(1.0), "wrong, and it runs");
    let broken = task.recheck(&problem, "SELECT a FROM nowhere").unwrap();
    assert_eq!(broken.score(), Some(0.0));
    let reason = broken.reason.unwrap();
    assert!(reason.contains("no such table"), "{reason}");
    assert_eq!(task.recheck(&problem, "hm").unwrap().score(), None);
}

#[test]
fn queries_are_found_in_all_kinds_of_replies() {
    let problem = Problem::new("1", TASK, "?");
    for (reply, wanted) in [
        ("SELECT a FROM t;", Some("SELECT a FROM t")),
        ("select a\nfrom t\n\nThis lists all a.", Some("select a\nfrom t")),
        ("First:\n```sql\nSELECT 1\n```\nBetter:\n```\nSELECT 2;\n```", Some("SELECT 2")),
        ("```SELECT 3```", Some("SELECT 3")),
        ("**Answer:** `SELECT a FROM t`", None),
        ("Answer: SELECT a FROM t", Some("SELECT a FROM t")),
        ("`SELECT a FROM t`", Some("SELECT a FROM t")),
        ("With these tables one can select it.", None),
        ("Selected rows: 3", None),
        ("```python\nprint(1)\n```", None),
        ("WITH x AS (SELECT 1) SELECT * FROM x", Some("WITH x AS (SELECT 1) SELECT * FROM x")),
    ] {
        let found = query_of(&problem, reply);
        match wanted {
            Some(_) => assert_eq!(found.as_deref(), wanted, "{reply}"),
            // Prose may look like a query; it must not be taken for an empty or a cut one.
            None => assert!(found.is_none_or(|query| query.len() > 10), "{reply}"),
        }
    }
}

#[test]
fn settings_are_checked() {
    for (value, part) in [
        (json!({"limits": {"seconds": 0}}), "limits"),
        (json!({"limits": {"rows": 0}}), "limits"),
        (json!({"databases": "x.jsonl"}), "path"),
        (json!({"limit": 3}), "limits"),
        (json!({"limits": {"sconds": 1}}), "sconds"),
    ] {
        let error = SqlSettings::from_value(&value).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("hint:"), "{error}");
    }
}

fn scratch(name: &str, text: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("elenchus-sql-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("questions.jsonl"), text).unwrap();
    folder
}

#[test]
fn rows_of_a_file_with_scripts_beside_it() {
    let questions = r#"{"db":"d","question":"How many?","gold_sql":"SELECT count(*) FROM t"}
{"id":7,"db_id":"d","question":"Which?","query":"SELECT a FROM t ORDER BY a"}"#;
    let folder = scratch("rows", questions);
    let path = folder.join("questions.jsonl");
    let open = || Sql::open(SqlSettings { path: Some(path.clone()), ..SqlSettings::default() });
    assert!(open().unwrap_err().to_string().contains("databases"), "there are none yet");
    let database = r#"{"db":"d","sqlite_sql":"CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2);"}"#;
    std::fs::write(folder.join("databases.jsonl"), database).unwrap();
    let task = open().unwrap();
    assert_eq!(task.all().len(), 2);
    assert!(task.all()[0].question.contains("CREATE TABLE t (a int);"), "{}", task.all()[0].question);
    assert!(task.verify(&task.all()[0], "SELECT 2").unwrap().is_correct());
    assert!(!task.verify(&task.all()[1], "SELECT a FROM t ORDER BY a DESC").unwrap().is_correct());
    assert_eq!(task.all()[1].id, "7");
    assert!(task.problems(Split::Test, 50, 1).unwrap_err().to_string().contains("hint:"));
    for (text, part) in [
        (r#"{"db":"e","question":"?","gold_sql":"SELECT 1"}"#, "`e`"),
        (r#"{"db":"d","question":"?"}"#, "row 1 lacks"),
        ("{", "row 1"),
        ("", "no rows"),
    ] {
        std::fs::write(&path, text).unwrap();
        assert!(open().unwrap_err().to_string().contains(part), "{text}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn broken_questions_are_passed_over_and_their_lines_kept() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("databases.jsonl", "\u{feff}{\"db\":\"d\",\"sqlite_sql\":\"CREATE TABLE t (a);\"}\n");
    let good = |id: u32| format!(r#"{{"id":{id},"db":"d","question":"?","gold_sql":"SELECT {id}"}}"#);
    let broken =
        ["{\"db\":", r#"{"db":"d","question":"?"}"#, r#"{"db":"e","question":"?","gold_sql":"SELECT 1"}"#];
    let open = |skip: bool| {
        let path = folder.path().join("questions.jsonl");
        Sql::open(SqlSettings { path: Some(path), skip_bad_lines: skip, ..SqlSettings::default() })
    };
    write("questions.jsonl", &format!("{}\n\n{}\n{}\n", good(1), broken.join("\n"), good(2)));
    assert!(open(false).unwrap_err().to_string().contains("row 3"));
    let task = open(true).unwrap();
    let ids: Vec<&str> = task.all().iter().map(|problem| problem.id.as_str()).collect();
    assert_eq!((ids.as_slice(), task.skipped()), (&["1", "2"][..], &[3, 4, 5][..]));
    // Of an array, places count; one that is no JSON has no rows that could be told apart.
    write("questions.jsonl", &format!("[{},\n{},\n{}]", good(1), broken[1], good(2)));
    assert_eq!(open(true).unwrap().skipped(), [2]);
    write("questions.jsonl", &format!("[{},\n{}]", good(1), broken[0]));
    assert!(open(true).unwrap_err().to_string().contains("array"));
    write("questions.jsonl", &broken.join("\n"));
    let error = open(true).unwrap_err().to_string();
    assert!(error.contains("no good rows, and 3 broken ones") && error.contains("hint: "), "{error}");
    // The databases must be whole: a question that asks a broken one would be lost without a word.
    write("questions.jsonl", &good(1));
    write("databases.jsonl", "{\"db\":\"d\"}\n");
    assert!(open(true).unwrap_err().to_string().contains("databases.jsonl"));
}

/// Spider's development questions, where they are there.
#[test]
fn the_reference_queries_of_spider_return_what_was_recorded() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/spider_dev");
    let path = folder.join("questions.jsonl");
    if !path.exists() {
        return;
    }
    let limits = SqlLimits { seconds: 30.0, rows: 100_000, result_bytes: 64 << 20, ..SqlLimits::default() };
    let task = Sql::open(SqlSettings { path: Some(path.clone()), limits, ..SqlSettings::default() }).unwrap();
    let rows: Vec<Value> = std::fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(task.all().len(), rows.len());
    let mut compared = 0;
    for (problem, row) in task.all().iter().zip(&rows) {
        let gold = problem.gold.as_deref().unwrap();
        assert_eq!(task.outcome(problem, gold).unwrap(), SqlOutcome::Correct, "{gold}");
        let found = task.database(problem).unwrap().run(gold).unwrap();
        assert_eq!(found.rows.len() as u64, row["gold_rows"].as_u64().unwrap(), "{gold}");
        let Some(recorded) = row["gold_result"].as_array() else { continue };
        let value = |value: &Value| match value {
            Value::Null => SqlValue::Null,
            Value::Number(number) if number.is_i64() => SqlValue::Integer(number.as_i64().unwrap()),
            Value::Number(number) => SqlValue::Real(number.as_f64().unwrap()),
            Value::String(text) => SqlValue::Text(text.clone()),
            other => panic!("{other}"),
        };
        let recorded: Vec<Vec<SqlValue>> =
            recorded.iter().map(|row| row.as_array().unwrap().iter().map(value).collect()).collect();
        if recorded.len() == found.rows.len() {
            let recorded = SqlRows { columns: found.columns.clone(), rows: recorded };
            assert!(same_result(&recorded, &found, is_ordered(gold)), "{gold}");
            compared += 1;
        }
    }
    assert!(compared > 300, "{compared} results were compared");
}

proptest! {
    #[test]
    fn any_response_has_a_verdict(text in "(\\PC{0,20}|SELECT |```|#|Answer: |FROM people|\n){0,6}") {
        let task = task();
        let problem = Problem {
            data: json!({"script": "CREATE TABLE people (name text);", "theme": "people"}),
            ..Problem::new("1", TASK, "?").with_gold("SELECT count(*) FROM people")
        };
        let verdict = task.verify(&problem, &text).unwrap();
        prop_assert_eq!(verdict.answer.is_none(), verdict.outcome == Outcome::NoAnswer);
    }
}
