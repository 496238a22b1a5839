use super::*;
use crate::arithmetic::vocabulary;
use crate::{Ended, Skill};
use proptest::prelude::*;

fn task() -> World {
    World::new(WorldSettings::default()).unwrap()
}

/// Kitchen - garden - cellar. The key lies in the kitchen, the box with the book in the cellar; the book shall be in the garden.
fn sample() -> Problem {
    let layout = Layout {
        exits: vec![vec![1], vec![0, 2], vec![1]],
        things: 2,
        locked_box: Some(2),
        goals: vec![(1, 1)],
    };
    let mut places = [Place::Carried; MOST_THINGS];
    places[0] = Place::Room(0);
    places[1] = Place::Box;
    problem(&layout, &State { room: 1, places, open: false }).unwrap()
}

#[test]
fn a_world_in_both_notations() {
    let problem = sample();
    assert_eq!(problem.compact.as_deref(), Some("a:b,k;b:ac;c:b,(x);_b>xb?"));
    assert!(problem.question.contains("There is a locked box with the book in it"), "{}", problem.question);
    assert!(problem.question.contains("Bring the book to the garden."));
    assert_eq!(task().reference(&problem).as_deref(), Some("ga;tk;gb;gc;o;tx;gb;dx#8"));
}

#[test]
fn plans_are_played_exactly() {
    let (task, problem) = (task(), sample());
    let verdict = |response: &str| task.verify(&problem, response).unwrap();
    let right = verdict("ga;tk;gb;gc;o;tx;gb;dx#8");
    assert!(right.is_correct() && right.first_wrong_step().is_none());
    let words = "I fetch the key first.\n1. Go to the kitchen\n2. take the key\n3. go to the garden\n4. go to the cellar\n\
                 5. open the box\n6. `take the book`\n7. go to the garden\n8. drop the book.";
    assert!(verdict(words).is_correct());
    assert_eq!(task.extract(&problem, words).as_deref(), Some("ga;tk;gb;gc;o;tx;gb;dx"));
    let locked = verdict("gc;o;tx;gb;dx#5");
    assert_eq!((locked.outcome, locked.first_wrong_step()), (Outcome::Wrong, Some(1)));
    let reason = locked.reason.unwrap();
    assert!(reason.contains("`o`: the box is locked") && reason.starts_with("0 %"), "{reason}");
    let undone = verdict("ga;tk;gb;gc;o;tx;gb;dx;tx#9");
    assert_eq!(undone.outcome, Outcome::Wrong, "what is taken away again is not brought");
    assert_eq!(verdict("I do not know.").outcome, Outcome::NoAnswer);
    assert_eq!(verdict("").outcome, Outcome::NoAnswer);
    let played = task.play(&problem, "ga;tk;gb;gc;o;tx").unwrap();
    assert_eq!(played.progress, 0.75, "key, lock, book in hand; not in its place");
}

#[test]
fn the_tool_judges_unfinished_plans_by_their_actions() {
    let (task, problem) = (task(), sample());
    let score = |text: &str| task.recheck(&problem, text).unwrap().score();
    assert_eq!(score("ga;tk"), Some(1.0));
    assert_eq!(score("gc;o"), Some(0.25));
    assert_eq!(score("ga;tk#2"), Some(1.0 / 3.0), "it ends too early");
    assert_eq!(score("ga;tk;gb;gc;o;tx;gb;dx#8"), Some(1.0));
    assert!(task.equivalent(&problem, "ga;gb", "gc;gb") && !task.equivalent(&problem, "ga", "gc"));
}

#[test]
fn an_episode_can_be_stopped_copied_and_begun_again() {
    let (task, problem) = (task(), sample());
    let mut world = task.environment(&problem).unwrap().unwrap();
    let first = world.observe();
    assert_eq!(first.actions, ["go to the kitchen", "go to the cellar"]);
    assert!(
        first.text.starts_with("You are in the garden.") && !first.text.contains("key"),
        "{}",
        first.text
    );
    assert_eq!((first.progress, first.ended, &first.refused), (0.0, None, &None));
    for action in ["go to the kitchen", "tk", "go to the garden", "gc", "open the box", "tx"] {
        assert_eq!(world.step(action).refused, None, "{action}");
    }
    let mut branch = world.copy();
    branch.step("gb");
    let end = branch.step("drop the book");
    assert_eq!((end.ended, end.progress, end.actions.len()), (Some(Ended::Success), 1.0, 0));
    assert_eq!(branch.step("ga").ended, Some(Ended::Success), "nothing changes behind the end");
    assert_eq!(branch.done().len(), 8);
    assert_eq!((world.done().len(), world.observe().progress), (6, 0.75), "the copy is another episode");
    let refused = world.step("take the moon");
    assert!(refused.refused.unwrap().contains("take the moon"));
    assert_eq!(world.step("o").refused.as_deref(), Some("the box is open"));
    assert_eq!(world.done().len(), 8, "actions without effect count");
    assert_eq!(world.reset(), first);
    assert!(world.done().is_empty());
    let mut idle = world.copy();
    let last = (0..100).map(|_| idle.step("nothing")).last().unwrap();
    assert_eq!((last.ended, idle.done().len()), (Some(Ended::OutOfActions), 24));
}

#[test]
fn the_compact_observation_is_a_problem_whose_plan_goes_on_from_there() {
    let (task, start) = (task(), sample());
    let (layout, _) = given(&start).unwrap();
    let mut world = task.episode(&start).unwrap();
    let mut left = 8;
    while world.ended().is_none() {
        let here = problem(&layout, world.state()).unwrap();
        assert_eq!(here.compact.as_deref(), Some(world.observe().compact.as_str()));
        let plan = task.reference(&here).unwrap();
        assert!(plan.ends_with(&format!("#{left}")), "{plan}");
        world.step(plan.split([';', '#']).next().unwrap());
        left -= 1;
    }
    assert_eq!((world.ended(), left), (Some(Ended::Success), 0));
}

#[test]
fn problems_are_distinct_divided_and_solved_by_the_expert() {
    let task = task();
    let letters: HashSet<String> = vocabulary().into_iter().collect();
    let (mut seen, mut boxes) = (HashSet::new(), 0);
    for split in [Split::Train, Split::Validation, Split::Test] {
        let problems = task.problems(split, 150, 7).unwrap();
        assert_eq!(problems, task.problems(split, 150, 7).unwrap(), "the seed decides");
        for problem in problems {
            assert!(seen.insert(problem.id.clone()), "in two splits or twice");
            let reference = task.reference(&problem).unwrap();
            let verdict = task.verify(&problem, &reference).unwrap();
            assert!(verdict.is_correct() && verdict.first_wrong_step().is_none(), "{reference}");
            assert!((3..=14).contains(&verdict.steps.len()));
            for text in [Skill::Solve.prompt(&problem, &[]), reference] {
                assert!(text.chars().all(|c| letters.contains(&c.to_string())), "{text}");
            }
            boxes += usize::from(problem.compact.unwrap().contains('('));
        }
    }
    assert!((120..330).contains(&boxes), "{boxes} of 450 with a locked box");
}

#[test]
fn settings_and_problems_are_checked() {
    for (field, value) in [
        ("rooms", json!([1, 3])),
        ("things", json!([1, 4])),
        ("goals", json!([2, 5])),
        ("actions", json!([5, 4])),
        ("locked", json!(1.5)),
        ("patience", json!(0.5)),
    ] {
        let error = WorldSettings::from_value(&json!({ field: value })).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains("hint:"), "{error}");
    }
    let narrow = WorldSettings {
        rooms: [2, 2],
        things: [1, 1],
        goals: [1, 1],
        locked: 0.0,
        ..WorldSettings::default()
    };
    let error = World::new(narrow).unwrap().problems(Split::Test, 100, 1).unwrap_err().to_string();
    assert!(error.contains("distinct"), "{error}");
    assert!(task().verify(&Problem::new("1", "arithmetic", "1+1?"), "ga").is_err());
    let mut broken = sample();
    broken.data["goals"] = json!([[7, 1]]);
    assert!(task().verify(&broken, "ga").unwrap_err().to_string().contains("hint:"));
    broken = sample();
    broken.data["exits"] = json!([[9], [0, 2], [1]]);
    assert!(task().environment(&broken).is_err());
}

proptest! {
    #[test]
    fn no_text_moves_a_thing_out_of_the_world(actions in prop::collection::vec("(g[a-f]|t[kwxyz]|d[kwxyz]|o|\\PC{0,8})", 0..30)) {
        let problem = sample();
        let mut world = task().episode(&problem).unwrap();
        let mut progress_of_deeds = 0.0f64;
        for action in &actions {
            let seen = world.step(action);
            prop_assert!((0.0..=1.0).contains(&seen.progress));
            prop_assert_eq!(seen.ended == Some(Ended::Success), seen.progress == 1.0 && world.state().places[1] == Place::Room(1));
            for place in &world.state().places[..2] {
                prop_assert!(matches!(place, Place::Room(0..=2) | Place::Carried | Place::Box));
            }
            progress_of_deeds = progress_of_deeds.max(seen.progress);
        }
        // The same plan in one go ends where the episode does, as long as that was not over before.
        if world.ended().is_none() {
            let plain = |action: &&str| !action.is_empty() && action.chars().all(|c| c.is_ascii_alphabetic());
            let known: Vec<&str> = actions.iter().map(String::as_str).filter(plain).collect();
            if known.len() == actions.len() {
                let played = task().play(&problem, &known.join(";")).unwrap();
                prop_assert_eq!(&played.state, world.state());
            }
        }
    }
}
