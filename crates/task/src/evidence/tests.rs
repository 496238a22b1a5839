use super::*;
use elenchus_trace::{Content, ContentPart};

fn task(settings: Value) -> Evidence {
    Evidence::open(EvidenceSettings::from_value(&settings).unwrap()).unwrap()
}

fn fact(text: &str) -> Fact {
    let signs: Vec<char> = text.chars().collect();
    Fact {
        entity: signs[0],
        attribute: signs[1],
        time: signs[2],
        value: signs[3].to_digit(10).unwrap() as u8,
    }
}

/// The example of the module's head.
fn example() -> Query {
    Query {
        facts: ["gHm7", "cPn4", "dWn2", "cPq4"].map(fact).to_vec(),
        blanked: vec![[false; 4], [false, false, true, false], [true, false, false, true], [false; 4]],
        needed: vec![0, 3],
        operation: Operation::Sum,
        options: vec![3, 7, 1, 9],
    }
}

#[test]
fn both_notations_and_the_answer() {
    let problem = example().problem().unwrap();
    assert_eq!(problem.compact.as_deref(), Some("gHm+cPq:3A7B1C9D;gHm7;cP_4;_Wn_;cPq4?"));
    assert_eq!(problem.gold.as_deref(), Some("C"), "7 + 4 = 11");
    assert!(problem.question.contains("Segment 2: ▢, price of the candle: 4\n"), "{}", problem.question);
    assert!(
        problem.question.ends_with(
            "What is the last digit of the sum of the height of the gate at 8:00 and the price of the candle at 12:00?"
        ),
        "{}",
        problem.question
    );
    let task = task(Value::Null);
    assert_eq!(task.reference(&problem).as_deref(), Some("gHm7+cPq4=1#C"));
    let outcome = |text: &str| task.verify(&problem, text).unwrap();
    let right = outcome("gHm7+cPq4=1#C");
    assert!(right.is_correct() && task.steps_right(&problem, &right) && right.steps.len() == 2);
    let lucky = outcome("gHm6+cPq4=1#C");
    assert!(lucky.is_correct() && !task.steps_right(&problem, &lucky));
    assert_eq!(lucky.first_wrong_step(), Some(0));
    assert!(!task.steps_right(&problem, &outcome("gHm7#C")), "a step is missing");
    assert_eq!(outcome("gHm7+cPq4=1#B").outcome, Outcome::Wrong);
    assert_eq!(outcome("gHm7+cPq4=1").outcome, Outcome::NoAnswer);
    assert!(outcome("The sum is 11.\nAnswer: C").is_correct(), "the chat voice");
}

#[test]
fn three_and_largest_keep_a_running_result() {
    let mut query = example();
    query.needed = vec![3, 2, 0];
    assert_eq!(query.chain(), ["cPq4", "+dWn2=6", "+gHm7=3"]);
    query.operation = Operation::Largest;
    assert_eq!(query.chain(), ["cPq4", ">dWn2=4", ">gHm7=7"]);
    assert_eq!(Operation::Difference.apply(3, 8), 5);
    assert_eq!(query.chain_of_first_view(|| 9), "cPq4>dWn9=9>gHm7=9", "what is blanked is guessed");
}

#[test]
fn segments_can_be_shown_again_and_left_out() {
    let problem = example().problem().unwrap();
    let stream = Stream::of(&problem).unwrap();
    assert_eq!(stream.needed(), [0, 3]);
    assert_eq!(stream.compact(&[1, 2]), "cPn4;dWn2", "at full resolution");
    let parts = stream.shown(&problem, &[2]);
    assert_eq!(parts, [ContentPart::text("Segment 3: 9:00, weight of the drum: 2")]);
    let left = without(&problem, &stream, 3).unwrap();
    assert_eq!(left.compact.as_deref(), Some("gHm+cPq:3A7B1C9D;gHm7;cP_4;_Wn_;____?"));
    assert!(left.question.contains("_") || left.question.contains("[left out]\n"), "{}", left.question);
    assert!(left.question.contains("Segment 1: 8:00, height of the gate: 7\n"));
    let error = without(&problem, &stream, 9).unwrap_err().to_string();
    assert!(error.contains("has no segment 10"), "{error}");
}

#[test]
fn generated_streams_are_as_their_settings_say() {
    let task = task(json!({"segments": 40, "blanked": [0.3, 0.5]}));
    let (mut blanks, mut tokens, mut near, mut others) = (0, 0, 0, 0);
    let mut needs = [0; 4];
    for problem in task.problems(Split::Train, 300, 1).unwrap() {
        let query = Query::of(&problem).unwrap();
        let keys: HashSet<String> = query.facts.iter().map(Fact::key).collect();
        assert_eq!((query.facts.len(), keys.len()), (40, 40), "no key twice");
        needs[query.needed.len()] += 1;
        blanks += query.blanked.iter().flatten().filter(|&&blank| blank).count();
        tokens += 160;
        for (place, fact) in query.facts.iter().enumerate().filter(|(place, _)| !query.needed.contains(place))
        {
            others += 1;
            near += usize::from(query.needed.iter().any(|&asked| {
                let asked = query.facts[asked].key();
                fact.key().chars().zip(asked.chars()).filter(|(a, b)| a == b).count() == 2
            }));
            let view = Stream::of(&problem).unwrap();
            let [from, to] = view.segments[place].in_compact.unwrap();
            assert_eq!(&problem.compact.as_ref().unwrap()[from..to], fact.compact(query.blanked[place]));
        }
        assert_eq!(
            problem.options[query.options.iter().position(|&v| v == query.result()).unwrap()].label,
            problem.gold.unwrap()
        );
    }
    let share = blanks as f64 / tokens as f64;
    assert!((0.38..0.42).contains(&share), "{share}");
    // Drawn again where a key is there already, and others come near by chance.
    assert!((0.26..0.36).contains(&(near as f64 / others as f64)), "{near} of {others}");
    assert!(needs[0] == 0 && needs[1..].iter().all(|&count| count > 70), "{needs:?}");
}

#[test]
fn splits_hold_different_problems_and_seeds_repeat() {
    let task = task(Value::Null);
    let ids = |split, seed| -> HashSet<String> {
        task.problems(split, 200, seed).unwrap().into_iter().map(|problem| problem.id).collect()
    };
    let (train, test) = (ids(Split::Train, 1), ids(Split::Test, 1));
    assert_eq!((train.len(), test.len()), (200, 200));
    assert!(train.is_disjoint(&test) && train.is_disjoint(&ids(Split::Validation, 1)));
    assert_eq!(test, ids(Split::Test, 1));
}

#[test]
fn settings_out_of_range_are_named() {
    for (settings, field) in [
        (json!({"segments": 2}), "`segments`"),
        (json!({"needed": [0, 2]}), "`needed`"),
        (json!({"needed": [2, 4]}), "`needed`"),
        (json!({"blanked": [0.5, 0.3]}), "`blanked`"),
        (json!({"near": 1.5}), "`near`"),
        (json!({"frames": 0}), "`frames`"),
        (json!({"path": 3}), "`path`"),
        (json!({"segment": 32}), "did you mean `segments`"),
    ] {
        let error = EvidenceSettings::from_value(&settings).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains("hint: "), "{error}");
    }
}

const PNG: [u8; 5] = [0x89, b'P', b'N', b'G', 13];

fn file(rows: &str) -> (tempfile::TempDir, Result<Evidence, TaskError>) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one.png", "two.png"] {
        std::fs::write(folder.path().join(name), PNG).unwrap();
    }
    let path = folder.path().join("rows.jsonl");
    std::fs::write(&path, rows).unwrap();
    let settings = json!({"path": path.display().to_string()});
    let task = Evidence::open(EvidenceSettings::from_value(&settings).unwrap());
    (folder, task)
}

#[test]
fn images_of_a_file_reach_the_dialogue_at_low_resolution_and_are_shown_again_at_high() {
    let (_folder, task) = file(concat!(
        "{\"id\":\"p\",\"question\":\"Which page names the date?\",\"choices\":[\"the first\",\"the second\"],\"answer\":\"B\",",
        "\"images\":[\"one.png\",{\"image\":\"https://example.org/2.png\",\"label\":\"Page 2\"}],",
        "\"subtitles\":[{\"start\":0,\"end\":75.5,\"text\":\"welcome\"}]}\n",
    ));
    let task = task.unwrap();
    let problem = task.problems(Split::Test, 1, 1).unwrap().remove(0);
    assert_eq!((problem.id.as_str(), problem.gold.as_deref()), ("p", Some("B")));
    let Some(Content::Parts(parts)) = &problem.history[0].content else { panic!("parts") };
    let written = serde_json::to_value(parts).unwrap();
    assert_eq!(written[1]["image_url"], json!({"url": "data:image/png;base64,iVBORw0=", "detail": "low"}));
    assert_eq!(written[2]["text"], "Page 2:");
    assert_eq!(written[3]["image_url"]["url"], "https://example.org/2.png");
    assert_eq!(written[4]["text"], "Subtitle 1, 0:00 to 1:15: welcome\n\nWhich page names the date?");
    let stream = Stream::of(&problem).unwrap();
    assert_eq!(stream.segments.len(), 3);
    let again = serde_json::to_value(stream.shown(&problem, &[1, 2])).unwrap();
    assert_eq!(again[1]["image_url"], json!({"url": "https://example.org/2.png", "detail": "high"}));
    assert_eq!(again[2]["text"], "Subtitle 1, 0:00 to 1:15: welcome");
    let left = without(&problem, &stream, 0).unwrap();
    let left = serde_json::to_value(&left.history[0]).unwrap();
    assert_eq!(left["content"].as_array().unwrap().len(), 4);
    assert_eq!(left["content"][2]["image_url"]["url"], "https://example.org/2.png");
    assert!(task.verify(&problem, "Answer: B").unwrap().is_correct());
}

#[test]
fn passages_and_open_questions() {
    let (_folder, task) =
        file("{\"question\":\"Who came?\",\"answer\":\"Ann\",\"passages\":[\"Bob left.\",\"Ann came.\"]}\n");
    let task = task.unwrap();
    let problem = task.problems(Split::Test, 1, 1).unwrap().remove(0);
    assert_eq!(problem.question, "Passage 1: Bob left.\n\nPassage 2: Ann came.\n\nWho came?");
    let left = without(&problem, &Stream::of(&problem).unwrap(), 0).unwrap();
    assert_eq!(left.question, "[left out]\n\nPassage 2: Ann came.\n\nWho came?");
    assert!(task.verify(&problem, "It was Ann.\nAnswer: ann").unwrap().is_correct());
    assert_eq!(task.verify(&problem, "Answer: Bob").unwrap().outcome, Outcome::Wrong);
}

#[test]
fn broken_rows_are_named() {
    let good =
        "{\"question\":\"Which?\",\"choices\":[\"a\",\"b\"],\"answer\":\"A\",\"images\":[\"one.png\"]}\n";
    for (row, what) in [
        ("{\"question\":", "line 2: is no row"),
        ("{\"question\":\"x\",\"choices\":[\"a\",\"b\"],\"answer\":\"A\"}", "line 2: has no `images`"),
        (
            "{\"images\":[\"one.png\"],\"choices\":[\"a\",\"b\"],\"answer\":\"A\"}",
            "line 2: has no `question`",
        ),
        ("{\"question\":\"x\",\"choices\":[\"a\"],\"answer\":\"A\",\"images\":[\"one.png\"]}", "1 choices"),
        ("{\"question\":\"x\",\"answer\":\"A\",\"images\":[\"none.png\"]}", "none.png"),
        ("{\"question\":\"x\",\"answer\":\"A\",\"video\":\"none.mp4\"}", "hint: "),
    ] {
        let error = file(&format!("{good}{row}\n")).1.unwrap_err().to_string();
        assert!(error.contains(what), "{row}: {error}");
    }
    assert!(file("\n").1.unwrap_err().to_string().contains("has no rows"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("one.png"), PNG).unwrap();
    let path = folder.path().join("rows.jsonl");
    let open = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let settings = json!({"path": path.display().to_string(), "skip_bad_lines": true});
        Evidence::open(EvidenceSettings::from_value(&settings).unwrap())
    };
    let task = open(&format!("{good}{{\n\n{{\"question\":\"x\",\"answer\":\"A\"}}\n{good}")).unwrap();
    assert_eq!((task.rows().len(), task.skipped()), (2, &[2, 4][..]));
    let error = open("{\n").unwrap_err().to_string();
    assert!(error.contains("no good rows, and 1 broken ones"), "{error}");
    let absent = "{\"question\":\"x\",\"answer\":\"A\",\"images\":[\"none.png\"]}\n";
    assert!(
        open(absent).unwrap_err().to_string().contains("none.png"),
        "a good line, and a file that is not there"
    );
}

#[test]
fn problems_of_other_tasks_have_segments_too() {
    let mut problem = Problem::new("p", "chat", "First.\n\nSecond.\n\nWhich one?");
    let stream = Stream::of(&problem).unwrap();
    assert_eq!(
        stream.segments.iter().filter_map(|s| s.text.as_deref()).collect::<Vec<_>>(),
        ["First.", "Second."]
    );
    assert_eq!(without(&problem, &stream, 1).unwrap().question, "First.\n\n[left out]\n\nWhich one?");
    let image = |name: &str| json!({"type": "image_url", "image_url": {"url": name}});
    problem.history = vec![
        serde_json::from_value(
            json!({"role": "user", "content": [image("a"), {"type": "text", "text": "Which?"}, image("b")]}),
        )
        .unwrap(),
    ];
    assert_eq!(Stream::of(&problem).unwrap().segments[1].label, "Image 2");
    let error = Stream::of(&Problem::new("p", "chat", "Why?")).unwrap_err().to_string();
    assert!(error.contains("no segments") && error.contains("hint: "), "{error}");
}

#[test]
fn examples_of_the_page_are_read() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats.md");
    let page = std::fs::read_to_string(page).unwrap();
    let block = page.split("```jsonl evidence\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("scan")).unwrap();
    for name in ["scan/1.png", "scan/2.png"] {
        std::fs::write(folder.path().join(name), PNG).unwrap();
    }
    let path = folder.path().join("rows.jsonl");
    let settings = json!({"path": path.display().to_string()});
    let mut read = 0;
    for line in block.lines() {
        std::fs::write(&path, line).unwrap();
        match Evidence::open(EvidenceSettings::from_value(&settings).unwrap()) {
            Ok(task) => {
                let problem = task.rows().remove(0);
                let reference = problem.gold.clone().unwrap();
                assert!(
                    task.verify(&problem, &format!("Answer: {reference}")).unwrap().is_correct(),
                    "{line}"
                );
                read += 1;
            }
            // The video is not there, and perhaps no program to cut it.
            Err(error) => {
                assert!(line.contains("clip.mp4") && error.to_string().contains("hint: "), "{error}")
            }
        }
    }
    assert_eq!(read, 2, "all but the video");
}
