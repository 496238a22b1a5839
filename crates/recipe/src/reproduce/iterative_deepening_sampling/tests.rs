use super::arms::*;
use super::view::*;
use super::*;
use elenchus_control::{IterativeDeepeningSampling, OnEnd, Trigger};

fn kept(answer: &str, right: bool, tokens: u64, logprob: f64) -> Kept {
    Kept {
        text: format!("#{answer}"),
        answer: (!answer.is_empty()).then(|| answer.to_string()),
        right,
        tokens,
        read: 1,
        triggers: 0,
        forced: false,
        logprob: Some(logprob),
    }
}

#[test]
fn every_arm_gets_at_least_the_tokens() {
    let list: Vec<Kept> = [10, 20, 30].map(|tokens| kept("1", true, tokens, -1.0)).to_vec();
    assert_eq!([1, 10, 11, 30, 31, 60, 61].map(|tokens| enough(&list, tokens)), [1, 1, 2, 2, 3, 3, 3]);
}

#[test]
fn choices_among_responses() {
    let drawn = Drawn {
        responses: vec![vec![
            kept("7", true, 1, -0.9),
            kept("8", false, 1, -0.1),
            kept("", false, 1, -0.0),
            kept("8", false, 1, -0.5),
            kept("7", true, 1, -0.2),
        ]],
        judged: vec![vec![0.4, 0.3, 0.99, 0.1, 0.2]],
    };
    let credit = |count, choice| chosen(&drawn, 0, count, choice);
    assert_eq!(credit(5, Choice::Vote), 0.5, "a tie is worth a half");
    assert_eq!(credit(4, Choice::Vote), 0.0);
    assert_eq!(credit(5, Choice::Judge), 1.0, "what has no answer cannot win");
    assert_eq!(credit(5, Choice::Likelihood), 0.0);
    assert_eq!(credit(9, Choice::Pass), 1.0, "no more than there are");
}

#[test]
fn the_arms_differ_in_what_their_names_say() {
    let settings = Settings {
        questions: 1,
        validation: 1,
        steps: [4, 8],
        sizes: vec![1, 8],
        claims_at: 8,
        plain: 20,
        growths: vec![1.5, 2.0, 4.0],
        growth: 2.0,
        cap: 320,
        answer_tokens: 8,
        temperature: 1.0,
        crossings: 1,
        seeds: vec![1],
    };
    let plans = plans(&settings, 20);
    assert_eq!(plans.len(), 7);
    for plan in &plans {
        let made = &plan.settings;
        assert_eq!((made.draw.max_tokens, made.answer_tokens), (320, 8), "{}: the same cap", plan.name);
        assert!(IterativeDeepeningSampling::new(made.clone()).is_ok());
        match plan.kind {
            Kind::Plain => assert_eq!((made.most_triggers, made.samples), (Some(0), 20)),
            Kind::AtEnd => assert_eq!((made.on_end, made.most_triggers), (OnEnd::Reflect, Some(1))),
            Kind::Growing(growth) => assert_eq!((made.growth, made.first_budget), (growth, 20)),
            Kind::Filler => assert_eq!((made.growth, made.trigger), (2.0, Trigger::Filler)),
        }
    }
}

/// What the experiment is given at the full size, without a run folder.
fn with_input(test: impl FnOnce(&Reproduce<'_>, Settings)) {
    let recipe = crate::built_in("iterative-deepening-sampling").unwrap();
    let session = elenchus_learn::Session {
        run: None,
        observer: &elenchus_learn::Quiet,
        stop: elenchus_learn::StopFlag::default(),
    };
    let models = [crate::models::EMBEDDED.to_string()];
    let input = Reproduce {
        recipe: &recipe,
        size: crate::Size::Full,
        seed: 1,
        models: &models,
        lab: crate::lab::Lab::new(None),
        session: &session,
    };
    let settings = input.settings().unwrap();
    test(&input, settings);
}

/// The embedded model has not learned the trigger; how arms are drawn and cut can be seen all the same.
#[test]
fn every_arm_is_drawn_from_a_real_model() {
    with_input(|input, settings| {
        let settings =
            Settings { validation: 4, sizes: vec![2], claims_at: 2, plain: 3, cap: 120, ..settings };
        let task = chains(settings.steps).unwrap();
        let problems = task.problems(Split::Validation, 3, 5).unwrap();
        let asked = Asked::new(input, crate::models::EMBEDDED).unwrap();
        let first = first_budget(&asked, &settings, &task, input, "first").unwrap();
        assert!((1..=60).contains(&first), "{first}");
        let longest = u64::from(settings.cap + settings.answer_tokens) + 1;
        let mut begun: Vec<String> = Vec::new();
        for plan in plans(&settings, 12) {
            let drawn = draw(&asked, &task, &problems, &plan.settings, &plan.name).unwrap();
            assert_eq!(drawn.iter().map(Vec::len).collect::<Vec<_>>(), vec![plan.settings.samples; 3]);
            for kept in drawn.iter().flatten() {
                assert!(kept.tokens >= 1 && kept.tokens <= longest, "{}: {kept:?}", plan.name);
                assert!(!kept.text.contains(['~', ':']), "{}: no sign of ours: {kept:?}", plan.name);
                assert!(kept.logprob.is_some_and(|l| l <= 0.0), "{}: {kept:?}", plan.name);
            }
            let triggers = drawn.iter().flatten().map(|kept| kept.triggers).max();
            match plan.kind {
                Kind::Plain => assert_eq!(triggers, Some(0)),
                Kind::AtEnd => assert_eq!(triggers, Some(1)),
                _ => assert!(triggers > Some(1), "{}", plan.name),
            }
            // The first words of a response are the same in every arm that throws none of them away.
            let beginning = |kept: &Kept| kept.text.chars().take(6).collect::<String>();
            match plan.kind {
                Kind::Plain => begun = drawn.iter().map(|list| beginning(&list[0])).collect(),
                Kind::Filler => {
                    let here: Vec<String> = drawn.iter().map(|list| beginning(&list[0])).collect();
                    assert_eq!(here, begun);
                }
                _ => {}
            }
        }
        let crossed: Vec<Vec<Crossed>> = asked
            .each("crossings", &problems, |context, problem| cross(context, &task, problem, &settings, 12))
            .unwrap();
        assert!(crossed.iter().flatten().any(|crossed| crossed.within.is_some()));
    });
}

#[test]
fn findings_answer_every_claim() {
    with_input(|input, settings| every_claim(input, &settings));
}

fn every_claim(input: &Reproduce<'_>, settings: &Settings) {
    let task = chains(settings.steps).unwrap();
    let problems = task.problems(Split::Validation, 40, 3).unwrap();
    // Growing distances are right on every question, the others on the first half.
    let arms = |settings: &Settings| -> Vec<Drawn> {
        plans(settings, 20)
            .iter()
            .map(|plan| {
                let good = plan.kind == Kind::Growing(settings.growth);
                let one = |q: usize| {
                    let right = good || q < 20;
                    let copies = vec![kept(if right { "1" } else { "2" }, right, 10, -1.0); 8];
                    if good { copies } else { [copies.clone(), copies].concat() }
                };
                let responses: Vec<Vec<Kept>> = (0..40).map(one).collect();
                let judged = responses.iter().map(|list| vec![0.5; list.len()]).collect();
                Drawn { responses, judged }
            })
            .collect()
    };
    let crossed = Crossed { within: Some([true, true, false]), end: Some([false, true]) };
    let kept_right = Crossed { within: None, end: Some([true, true]) };
    let seeds: Vec<Seed> = (0..2)
        .map(|_| Seed { first: 20, arms: arms(settings), crossed: vec![vec![crossed, kept_right]; 40] })
        .collect();
    let found = findings(input, settings, &task, &problems, &seeds).unwrap();
    let claims = &input.acceptance().unwrap().claims;
    for claim in claims {
        let interval = found.estimates.get(&claim.id).unwrap_or_else(|| panic!("{}", claim.id));
        assert!(interval.value.is_finite(), "{}", claim.id);
    }
    assert_eq!(found.estimates.len(), claims.len());
    let value = |id: &str| found.estimates[id].value;
    assert_eq!((value("repairs"), value("keeps")), (1.0, 1.0));
    assert_eq!((value("vote-over-plain"), value("over-end")), (0.5, 0.5), "right on the other half, too");
    assert_eq!((value("filler"), value("fixed-worst")), (0.0, 0.0));
    assert_eq!(value("interior"), 0.5, "the growth of the claims lies between the others");
}

#[test]
fn the_hard_half_is_told_by_the_problem() {
    let task = chains([4, 8]).unwrap();
    let problems = task.problems(Split::Validation, 60, 3).unwrap();
    let hard = hard(&task, &problems);
    let share = hard.iter().filter(|h| **h).count();
    assert!((20..=40).contains(&share), "{share} of 60");
    let steps = |q: usize| task.reference(&problems[q]).unwrap().matches(';').count();
    let least = (0..60).filter(|&q| hard[q]).map(steps).min().unwrap();
    assert!((0..60).filter(|&q| !hard[q]).all(|q| steps(q) < least));
}
