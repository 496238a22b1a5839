//! The engine's outputs and every kind of gradient against an independent f64 decoder and finite differences.

#![expect(clippy::unwrap_used, reason = "a test helper that fails should stop the test")]

mod reference;

use elenchus_native::{
    Engine, ForwardOptions, Gradient, HeadMask, Linear, LoraAdapter, LoraConfig, Model, ModelConfig,
    ScalarHead, Sequence, SequenceGradient, SequenceOutput, Trainable,
};
use reference::{Numbers, Reference};

/// Which block variant is tested.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Variant {
    Llama,
    Untied,
    Grouped,
    Qwen2,
    Qwen3,
}

const VARIANTS: [Variant; 5] =
    [Variant::Llama, Variant::Untied, Variant::Grouped, Variant::Qwen2, Variant::Qwen3];

fn model(variant: Variant, seed: u64) -> Model {
    let config = ModelConfig {
        vocab_size: 23,
        hidden_size: 20,
        intermediate_size: 27,
        layers: 3,
        heads: 4,
        kv_heads: if matches!(variant, Variant::Llama | Variant::Untied) { 4 } else { 2 },
        // Qwen3 has heads wider than d / heads.
        head_dim: if variant == Variant::Qwen3 { 8 } else { 6 },
        rope_theta: 1000.0,
        rms_norm_eps: 1e-5,
        max_positions: 200,
        tie_embeddings: variant != Variant::Untied,
        qkv_bias: variant == Variant::Qwen2,
        qk_norm: variant == Variant::Qwen3,
        eos_token_ids: vec![1],
    };
    let mut model = Model::initialise(config, seed).unwrap();
    // Numbers of ordinary size everywhere, so that no gradient is trivially small.
    let mut numbers = Numbers(seed + 99);
    for p in model.layout().parameters().to_vec() {
        for value in &mut model.parameters[p.range] {
            *value = if p.name.ends_with("norm.weight") {
                1.0 + 0.3 * numbers.next()
            } else {
                0.4 * numbers.next()
            } as f32;
        }
    }
    model
}

fn add_heads(model: &mut Model) {
    let d = model.config().hidden_size;
    let mut numbers = Numbers(5);
    for (name, layer, detach_trunk) in [
        ("value", None, false),
        ("reward", Some(2), false),
        ("embedding", Some(0), false),
        ("known", Some(1), true),
    ] {
        let weight = (0..d).map(|_| (0.3 * numbers.next()) as f32).collect();
        let bias = numbers.next() as f32;
        model.heads.push(ScalarHead { name: name.into(), layer, weight, bias, detach_trunk });
    }
}

fn add_adapter(model: &mut Model, targets: &[Linear], dropout: f32) {
    let config = LoraConfig { rank: 3, alpha: 6.0, dropout, targets: targets.to_vec() };
    let mut adapter = LoraAdapter::new(model.config(), config, 3).unwrap();
    let mut numbers = Numbers(8);
    adapter.numbers.iter_mut().for_each(|value| *value = (0.3 * numbers.next()) as f32);
    model.adapter = Some(adapter);
}

fn sequences(model: &Model, lengths: &[(usize, usize)]) -> Vec<Sequence> {
    let mut numbers = Numbers(17);
    lengths
        .iter()
        .map(|(length, first_target)| Sequence {
            tokens: (0..*length).map(|_| numbers.below(model.config().vocab_size) as u32).collect(),
            first_target: *first_target,
        })
        .collect()
}

/// A loss with a random coefficient on every output: its gradient is the coefficients.
fn coefficients(output: &SequenceOutput, group: usize, index: usize) -> SequenceGradient {
    let mut numbers = Numbers((group * 31 + index) as u64 + 1);
    let mut draw = |n: usize| (0..n).map(|_| numbers.next() as f32).collect::<Vec<f32>>();
    let logprobs = draw(output.logprobs.len());
    let entropies = draw(output.logprobs.len());
    let heads = output.heads.iter().map(|head| draw(head.len())).collect();
    SequenceGradient { logprobs, entropies, heads }
}

fn weighted(output: &SequenceOutput, g: &SequenceGradient) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(&output.logprobs, &g.logprobs)
        + dot(&output.entropies, &g.entropies)
        + output.heads.iter().zip(&g.heads).map(|(a, b)| dot(a, b)).sum::<f64>()
}

fn objective(group: usize, outputs: &[SequenceOutput]) -> (f64, Vec<SequenceGradient>) {
    let gradients: Vec<_> =
        outputs.iter().enumerate().map(|(index, o)| coefficients(o, group, index)).collect();
    (outputs.iter().zip(&gradients).map(|(o, g)| weighted(o, g)).sum(), gradients)
}

/// The same loss from the reference, without the heads in `skip_heads`.
fn reference_loss(reference: &Reference, groups: &[Vec<Sequence>], skip_heads: &[usize]) -> f64 {
    let mut loss = 0.0;
    for (g, group) in groups.iter().enumerate() {
        for (i, sequence) in group.iter().enumerate() {
            let said = reference.say(&sequence.tokens, sequence.first_target);
            let shape = SequenceOutput {
                logprobs: vec![0.0; said.logprobs.len()],
                entropies: Vec::new(),
                heads: said.heads.iter().map(|h| vec![0.0; h.len()]).collect(),
            };
            let c = coefficients(&shape, g, i);
            let dot = |a: &[f64], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * f64::from(*b)).sum::<f64>();
            loss += dot(&said.logprobs, &c.logprobs) + dot(&said.entropies, &c.entropies);
            for (h, (a, b)) in said.heads.iter().zip(&c.heads).enumerate() {
                loss += if skip_heads.contains(&h) { 0.0 } else { dot(a, b) };
            }
        }
    }
    loss
}

/// Engine gradient by tensor name, named as in the reference.
fn named_gradient(model: &Model, gradient: &Gradient) -> Vec<(String, Vec<f32>)> {
    let mut named = Vec::new();
    let base = gradient.parameter_range();
    for p in model.layout().parameters() {
        if p.range.start >= base.start && p.range.end <= base.end {
            let at = p.range.start - base.start..p.range.end - base.start;
            named.push((p.name.clone(), gradient.parameters()[at].to_vec()));
        }
    }
    if let (Some(adapter), false) = (&model.adapter, gradient.adapter().is_empty()) {
        let mut rest = gradient.adapter();
        for layer in 0..model.config().layers {
            for linear in Linear::ALL.into_iter().filter(|l| adapter.config().targets.contains(l)) {
                let (out, input) = reference::shape(model.config(), linear);
                let rank = adapter.config().rank;
                for (part, length) in [("A", rank * input), ("B", out * rank)] {
                    let (here, behind) = rest.split_at(length);
                    rest = behind;
                    named.push((format!("lora.{layer}.{linear:?}.{part}"), here.to_vec()));
                }
            }
        }
    }
    for (index, head) in model.heads.iter().enumerate() {
        named.push((format!("head.{}", head.name), gradient.head(index).unwrap().to_vec()));
    }
    named
}

/// Every tensor: one random direction and one coordinate, central differences in f64.
fn check_against_reference(model: &Model, groups: &[Vec<Sequence>], trainable: Trainable, threads: usize) {
    let options = ForwardOptions { entropies: true, threads, ..Default::default() };
    let mut gradient = Gradient::new(model, trainable).unwrap();
    let loss = Engine::new().forward_backward(model, groups, &options, &objective, &mut gradient).unwrap();
    let reference = Reference::of(model);
    let wanted = reference_loss(&reference, groups, &[]);
    assert!((loss - wanted).abs() < 2e-4 * (1.0 + wanted.abs()), "loss {loss}, reference {wanted}");
    let detached: Vec<usize> =
        model.heads.iter().enumerate().filter(|(_, h)| h.detach_trunk).map(|(i, _)| i).collect();
    let mut numbers = Numbers(1234);
    for (name, values) in named_gradient(model, &gradient) {
        // A detached head's own numbers see its loss; the trunk does not.
        let skip: &[usize] = if name.starts_with("head.") { &[] } else { &detached };
        let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let mut directions = vec![(0..values.len()).map(|_| numbers.next()).collect::<Vec<f64>>()];
        let mut one = vec![0.0; values.len()];
        one[numbers.below(values.len())] = 1.0;
        directions.push(one);
        for direction in directions {
            let step = 1e-5;
            let at = |sign: f64| {
                let mut moved = reference.clone();
                let tensor = moved.numbers.get_mut(&name).unwrap();
                tensor.iter_mut().zip(&direction).for_each(|(x, d)| *x += sign * step * d);
                reference_loss(&moved, groups, skip)
            };
            let wanted = (at(1.0) - at(-1.0)) / (2.0 * step);
            let got: f64 = values.iter().zip(&direction).map(|(v, d)| f64::from(*v) * d).sum();
            // f32 rounding of a few hundred terms of the tensor's size.
            let length = direction.iter().map(|d| d * d).sum::<f64>().sqrt();
            let tolerance = 2e-5 * (norm / (values.len() as f64).sqrt() * length + wanted.abs() + 1e-2);
            assert!(
                (got - wanted).abs() < tolerance.max(1e-6),
                "{name} of {} numbers: engine {got}, reference {wanted}, tolerance {tolerance}",
                values.len()
            );
        }
    }
}

/// Groups whose sequences are short and long, with all, some and no targets.
fn mixed_groups(model: &Model) -> Vec<Vec<Sequence>> {
    let all = sequences(model, &[(7, 1), (1, 1), (9, 4), (4, 4), (6, 3)]);
    vec![all[..2].to_vec(), Vec::new(), all[2..].to_vec()]
}

#[test]
fn outputs_equal_the_reference() {
    for variant in VARIANTS {
        let mut model = model(variant, 7);
        add_heads(&mut model);
        // 150 tokens: several blocks of attention rows; 130 + 150 do not fit one pack.
        let sequences = sequences(&model, &[(150, 40), (130, 1), (1, 1), (2, 1), (64, 64), (65, 2)]);
        let options = ForwardOptions { entropies: true, threads: 2, ..Default::default() };
        let outputs = model.logprobs(&sequences, &options).unwrap();
        let reference = Reference::of(&model);
        for (sequence, output) in sequences.iter().zip(&outputs) {
            let said = reference.say(&sequence.tokens, sequence.first_target);
            let close = |a: &[f32], b: &[f64], what: &str| {
                assert_eq!(a.len(), b.len(), "{variant:?} {what}");
                for (a, b) in a.iter().zip(b) {
                    assert!(
                        (f64::from(*a) - b).abs() < 2e-5 * (1.0 + b.abs()),
                        "{variant:?} {what}: {a} and {b}"
                    );
                }
            };
            close(&output.logprobs, &said.logprobs, "log-probability");
            close(&output.entropies, &said.entropies, "entropy");
            for (a, b) in output.heads.iter().zip(&said.heads) {
                close(a, b, "head");
            }
        }
        let plain = model.logprobs(&sequences, &ForwardOptions { threads: 2, ..Default::default() }).unwrap();
        assert!(plain.iter().all(|o| o.entropies.is_empty()), "entropies only when asked");
        assert_eq!(plain[0].logprobs, outputs[0].logprobs, "asking for entropies changes nothing else");
    }
}

#[test]
fn taps_show_hidden_states_and_attention() {
    for variant in VARIANTS {
        let model = model(variant, 7);
        let sequence = sequences(&model, &[(70, 1)]).remove(0);
        let taps = model.tap(&sequence).unwrap();
        let said = Reference::of(&model).say(&sequence.tokens, 1);
        let close = |a: f32, b: f64, what: &str| {
            assert!((f64::from(a) - b).abs() < 3e-5 * (1.0 + b.abs()), "{what}: {a}, {b}")
        };
        assert_eq!((taps.hidden.len(), taps.attention.len()), (4, 3));
        for (layer, states) in said.hidden.iter().enumerate() {
            for (position, state) in states.iter().enumerate() {
                for (a, b) in taps.state(layer, position).unwrap().iter().zip(state) {
                    close(*a, *b, "hidden state");
                }
            }
        }
        for (ours, theirs) in taps.attention.iter().zip(&said.attention) {
            for (a, b) in ours.iter().zip(theirs.iter().flatten().flatten()) {
                close(*a, *b, "attention");
            }
        }
        let logits = model.read_out(&taps.hidden[3]).unwrap();
        let output = model.logprobs(std::slice::from_ref(&sequence), &ForwardOptions::default()).unwrap();
        let row = &logits[..23];
        let total: f32 = row.iter().map(|z| z.exp()).sum();
        close(row[sequence.tokens[1] as usize] - total.ln(), f64::from(output[0].logprobs[0]), "read out");
        assert!(taps.state(4, 0).is_none() && taps.state(0, 70).is_none());
    }
}

#[test]
fn every_gradient_of_every_variant_equals_the_reference() {
    for variant in VARIANTS {
        let mut model = model(variant, 7);
        add_heads(&mut model);
        let groups = mixed_groups(&model);
        check_against_reference(&model, &groups, Trainable::All, 1);
    }
}

/// One direction over all numbers at once: the reference is slow at this length.
#[test]
fn long_sequences_cross_attention_blocks_and_packs() {
    let model = model(Variant::Grouped, 3);
    let groups = vec![sequences(&model, &[(140, 100), (135, 130)])];
    let options = ForwardOptions { entropies: true, threads: 2, ..Default::default() };
    let mut gradient = Gradient::new(&model, Trainable::All).unwrap();
    model.forward_backward(&groups, &options, &objective, &mut gradient).unwrap();
    let reference = Reference::of(&model);
    for seed in 0..4 {
        let mut numbers = Numbers(seed);
        let (step, mut got) = (1e-5, 0.0);
        let (mut up, mut down) = (reference.clone(), reference.clone());
        for (name, values) in named_gradient(&model, &gradient) {
            for (i, value) in values.iter().enumerate() {
                let direction = numbers.next();
                got += f64::from(*value) * direction;
                up.numbers.get_mut(&name).unwrap()[i] += step * direction;
                down.numbers.get_mut(&name).unwrap()[i] -= step * direction;
            }
        }
        let wanted = (reference_loss(&up, &groups, &[]) - reference_loss(&down, &groups, &[])) / (2.0 * step);
        let tolerance = 2e-5 * gradient.norm();
        assert!((got - wanted).abs() < tolerance, "engine {got}, reference {wanted}, tolerance {tolerance}");
    }
}

#[test]
fn adapters_of_every_matrix_equal_the_reference() {
    let mut model = model(Variant::Qwen2, 11);
    add_heads(&mut model);
    add_adapter(&mut model, &Linear::ALL, 0.0);
    let groups = mixed_groups(&model);
    check_against_reference(&model, &groups, Trainable::Adapter, 1);
    check_against_reference(&model, &groups, Trainable::All, 2);
    add_adapter(&mut model, &[Linear::Down, Linear::Key], 0.0);
    check_against_reference(&model, &groups, Trainable::Adapter, 2);
}

#[test]
fn last_blocks_and_heads_alone_equal_the_reference() {
    for variant in [Variant::Qwen3, Variant::Untied] {
        let mut model = model(variant, 4);
        add_heads(&mut model);
        let groups = mixed_groups(&model);
        for trainable in [Trainable::LastBlocks(1), Trainable::LastBlocks(3), Trainable::Heads] {
            check_against_reference(&model, &groups, trainable, 1);
        }
        // Without heads that read low layers, activations below the trained blocks are not kept.
        model.heads.retain(|head| head.layer.is_none());
        check_against_reference(&model, &groups, Trainable::LastBlocks(1), 1);
        check_against_reference(&model, &groups, Trainable::Heads, 1);
    }
}

#[test]
fn merging_an_adapter_keeps_the_function() {
    let mut model = model(Variant::Grouped, 11);
    add_adapter(&mut model, &Linear::ALL, 0.5);
    let sequences = sequences(&model, &[(30, 1)]);
    let options = ForwardOptions { threads: 1, ..Default::default() };
    let (with, merged) = (
        model.logprobs(&sequences, &options).unwrap(),
        model.merged().logprobs(&sequences, &options).unwrap(),
    );
    model.adapter = None;
    let without = model.logprobs(&sequences, &options).unwrap();
    for i in 0..with[0].logprobs.len() {
        assert!((with[0].logprobs[i] - merged[0].logprobs[i]).abs() < 2e-5, "merged differs at {i}");
    }
    assert!(with[0].logprobs[3] != without[0].logprobs[3], "the adapter changes something");
}

/// Masks are not known to the reference, so dropout is checked by differences of the engine itself with a fixed seed.
#[test]
fn dropout_gradients_follow_the_masked_function() {
    let mut model = model(Variant::Qwen3, 21);
    add_heads(&mut model);
    add_adapter(&mut model, &Linear::ALL, 0.3);
    let groups = mixed_groups(&model);
    let options = ForwardOptions { entropies: true, dropout: 0.25, dropout_seed: 5, threads: 1 };
    let loss_of = |model: &Model, options: &ForwardOptions| {
        let mut gradient = Gradient::new(model, Trainable::All).unwrap();
        let loss = model.forward_backward(&groups, options, &objective, &mut gradient).unwrap();
        (loss, gradient)
    };
    model.heads.iter_mut().for_each(|head| head.detach_trunk = false);
    let (loss, gradient) = loss_of(&model, &options);
    let other = ForwardOptions { dropout_seed: 6, ..options.clone() };
    assert_ne!(loss, loss_of(&model, &other).0, "another seed drops other elements");
    assert_eq!(gradient, loss_of(&model, &options).1, "the same seed drops the same");
    let two = loss_of(&model, &ForwardOptions { threads: 2, ..options.clone() }).0;
    assert!(
        (two - loss).abs() < 1e-4 * loss.abs().max(1.0),
        "masks do not depend on threads: {loss} and {two}"
    );
    let mut numbers = Numbers(2);
    let base = model.parameters.len();
    for (from, to) in [(0, base), (base, base + model.adapter.as_ref().unwrap().numbers.len())] {
        let direction: Vec<f32> = (from..to).map(|_| numbers.next() as f32).collect();
        let at = |step: f32| {
            let mut moved = model.clone();
            let target =
                if from == 0 { &mut moved.parameters } else { &mut moved.adapter.as_mut().unwrap().numbers };
            target.iter_mut().zip(&direction).for_each(|(x, d)| *x += step * d);
            loss_of(&moved, &options).0
        };
        // Four-point stencil: error of order step^4, so the step can be large against f32 rounding.
        let h = 2e-3;
        let wanted = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * f64::from(h));
        let got: f64 = gradient.values[from..to]
            .iter()
            .zip(&direction)
            .map(|(g, d)| f64::from(*g) * f64::from(*d))
            .sum();
        assert!((got - wanted).abs() < 0.01 * wanted.abs() + 0.02, "engine {got}, differences {wanted}");
    }
}

#[test]
fn threads_change_bits_only_slightly_and_repeats_not_at_all() {
    let mut model = model(Variant::Grouped, 13);
    add_heads(&mut model);
    let many =
        sequences(&model, &[(40, 3), (90, 50), (31, 1), (7, 2), (120, 20), (60, 59), (33, 8), (80, 1)]);
    let ways: [Vec<Vec<Sequence>>; 3] = [
        many.iter().map(|s| vec![s.clone()]).collect(),
        vec![many.clone()],
        many.chunks(3).map(<[_]>::to_vec).collect(),
    ];
    for groups in ways {
        let run = |threads: usize, engine: &mut Engine| {
            let options = ForwardOptions { threads, ..Default::default() };
            let mut gradient = Gradient::new(&model, Trainable::All).unwrap();
            let loss = engine.forward_backward(&model, &groups, &options, &objective, &mut gradient).unwrap();
            (loss, gradient)
        };
        let mut engine = Engine::new();
        let (one, two) = (run(1, &mut engine), run(2, &mut engine));
        assert_eq!(two, run(2, &mut engine), "a used engine gives the same bits");
        assert_eq!(two, run(2, &mut Engine::new()), "a fresh engine gives the same bits");
        assert!((one.0 - two.0).abs() < 1e-5 * one.0.abs().max(1.0), "loss {} and {}", one.0, two.0);
        let scale = one.1.norm() / (one.1.values.len() as f64).sqrt();
        for (a, b) in one.1.values.iter().zip(&two.1.values) {
            let tolerance = 1e-5 * (f64::from(a.abs()) + scale) + 1e-6;
            assert!(f64::from((a - b).abs()) < tolerance, "{a} and {b}");
        }
        let three = run(3, &mut engine);
        assert!((one.0 - three.0).abs() < 1e-5 * one.0.abs().max(1.0), "three threads");
    }
}

#[test]
fn gradients_add_up_and_absent_ones_are_zero() {
    let mut model = model(Variant::Llama, 2);
    add_heads(&mut model);
    let groups = mixed_groups(&model);
    let options = ForwardOptions { threads: 1, ..Default::default() };
    let mut engine = Engine::new();
    let mut once = Gradient::new(&model, Trainable::All).unwrap();
    engine.forward_backward(&model, &groups, &options, &objective, &mut once).unwrap();
    let mut twice = once.clone();
    engine.forward_backward(&model, &groups, &options, &objective, &mut twice).unwrap();
    for (a, b) in once.values.iter().zip(&twice.values) {
        assert!((2.0 * a - b).abs() <= 1e-5 * (1.0 + a.abs()), "{a} twice is {b}");
    }
    let mut none = Gradient::new(&model, Trainable::All).unwrap();
    let nothing =
        |_: usize, outputs: &[SequenceOutput]| (1.0, vec![SequenceGradient::default(); outputs.len()]);
    let loss = engine.forward_backward(&model, &groups, &options, &nothing, &mut none).unwrap();
    assert_eq!(loss, 3.0, "one per group, the empty group too");
    assert!(none.values.iter().all(|v| *v == 0.0), "no derivative, no gradient");
}

#[test]
fn a_group_too_large_to_keep_is_run_twice_with_the_same_result() {
    // 4096 rows of this width pass the budget only for large models, so the budget is met by many rows instead.
    let mut config = model(Variant::Llama, 1).config().clone();
    config.intermediate_size = 4096;
    let model = Model::initialise(config, 3).unwrap();
    let many = sequences(&model, &vec![(200, 199); 20]);
    let run = |groups: &[Vec<Sequence>]| {
        let mut gradient = Gradient::new(&model, Trainable::All).unwrap();
        let options = ForwardOptions { threads: 1, ..Default::default() };
        let same = |_: usize, outputs: &[SequenceOutput]| {
            let one = SequenceGradient { logprobs: vec![1.0], ..Default::default() };
            (outputs.iter().map(|o| f64::from(o.logprobs[0])).sum(), vec![one; outputs.len()])
        };
        (model.forward_backward(groups, &options, &same, &mut gradient).unwrap(), gradient)
    };
    let (large, small) =
        (run(std::slice::from_ref(&many)), run(&many.iter().map(|s| vec![s.clone()]).collect::<Vec<_>>()));
    assert!((large.0 - small.0).abs() < 1e-4);
    let scale = small.1.norm() / (small.1.values.len() as f64).sqrt();
    for (a, b) in large.1.values.iter().zip(&small.1.values) {
        assert!(f64::from((a - b).abs()) < 1e-4 * (f64::from(a.abs()) + scale), "{a} and {b}");
    }
}

#[test]
fn misuse_is_refused_with_a_hint() {
    let mut model = model(Variant::Llama, 2);
    let good = sequences(&model, &[(5, 1)]);
    let options = ForwardOptions { threads: 1, ..Default::default() };
    let refused = |sequence: Sequence| model.logprobs(&[sequence], &options).unwrap_err().to_string();
    for (sequence, part) in [
        (Sequence { tokens: vec![], first_target: 1 }, "no tokens"),
        (Sequence { tokens: vec![1, 2], first_target: 0 }, "first_target 0"),
        (Sequence { tokens: vec![1, 2], first_target: 3 }, "first_target 3"),
        (Sequence { tokens: vec![1, 23], first_target: 1 }, "token 23"),
        (Sequence { tokens: vec![1; 201], first_target: 1 }, "at most 200"),
    ] {
        let message = refused(sequence);
        assert!(message.contains(part) && message.contains("hint:"), "{message}");
    }
    let dropped = model.logprobs(&good, &ForwardOptions { dropout: 1.0, ..options.clone() });
    assert!(dropped.unwrap_err().to_string().contains("dropout is 1"));
    let mut gradient = Gradient::new(&model, Trainable::All).unwrap();
    let groups = [good.clone()];
    let mut engine = Engine::new();
    let mut run = |model: &Model, objective: &elenchus_native::Objective<'_>| {
        engine.forward_backward(model, &groups, &options, objective, &mut gradient).unwrap_err().to_string()
    };
    let short = SequenceGradient { logprobs: vec![1.0], ..Default::default() };
    assert!(run(&model, &|_, _| (0.0, vec![])).contains("0 gradients for the 1"));
    assert!(
        run(&model, &move |_, _| (0.0, vec![short.clone()])).contains("1 log-probabilities instead of 4")
    );
    let heads = SequenceGradient { heads: vec![vec![]], ..Default::default() };
    assert!(run(&model, &move |_, _| (0.0, vec![heads.clone()])).contains("1 heads instead of 0"));
    add_heads(&mut model);
    assert!(run(&model, &objective).contains("make the gradient"), "a gradient from before the heads");
    assert!(Gradient::new(&model, Trainable::Adapter).unwrap_err().to_string().contains("no adapter"));
    assert!(Gradient::new(&model, Trainable::LastBlocks(4)).unwrap_err().to_string().contains("last 4 of 3"));
    model.heads[0].weight.pop();
    assert!(model.logprobs(&good, &options).unwrap_err().to_string().contains("19 weights"));
}

#[test]
fn a_panicking_objective_leaves_the_engine_usable() {
    let model = model(Variant::Llama, 2);
    let groups: Vec<Vec<Sequence>> = sequences(&model, &[(100, 1); 8]).into_iter().map(|s| vec![s]).collect();
    let options = ForwardOptions { threads: 2, ..Default::default() };
    let mut engine = Engine::new();
    let clean = || Gradient::new(&model, Trainable::All).unwrap();
    let (mut wanted, mut spoiled, mut got) = (clean(), clean(), clean());
    Engine::new().forward_backward(&model, &groups, &options, &objective, &mut wanted).unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let bad = |group: usize, outputs: &[SequenceOutput]| {
            assert!(group < 6, "deliberate");
            objective(group, outputs)
        };
        let _ = engine.forward_backward(&model, &groups, &options, &bad, &mut spoiled);
    }));
    assert!(result.is_err(), "the panic reaches the caller");
    engine.forward_backward(&model, &groups, &options, &objective, &mut got).unwrap();
    assert_eq!(wanted, got, "nothing of the broken call remains");
}

/// The model whose output projection of `layer` reads the heads other than `keep` scaled: by hand what the mask means.
fn with_scaled_columns(model: &Model, layer: usize, keep: usize, factor: f32) -> Model {
    let mut scaled = model.clone();
    let name = format!("model.layers.{layer}.self_attn.o_proj.weight");
    let parameter = model.layout().parameters().iter().find(|p| p.name == name).unwrap().clone();
    let (wide, width) = (parameter.shape[1], model.config().head_dim);
    for row in scaled.parameters[parameter.range].chunks_exact_mut(wide) {
        for (column, weight) in row.iter_mut().enumerate() {
            if column / width != keep {
                *weight *= factor;
            }
        }
    }
    scaled
}

#[test]
fn a_head_mask_acts_before_the_output_projection_of_one_layer() {
    for variant in VARIANTS {
        let model = model(variant, 9);
        let sequence = sequences(&model, &[(40, 1)]).remove(0);
        let plain = model.tap_next(&sequence, None).unwrap();
        for (layer, keep, factor) in [(0, 0, 0.0), (1, 3, 0.0), (2, 1, 0.5)] {
            let masked = model.tap_next(&sequence, Some(HeadMask { layer, keep, factor })).unwrap();
            let by_hand = with_scaled_columns(&model, layer, keep, factor).tap_next(&sequence, None).unwrap();
            for (a, b) in masked.iter().zip(&by_hand) {
                assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{variant:?} {layer} {keep}: {a} and {b}");
            }
            assert!(masked.iter().zip(&plain).any(|(a, b)| (a - b).abs() > 1e-3), "the mask does something");
        }
        let all = model.tap_next(&sequence, Some(HeadMask { layer: 1, keep: 2, factor: 1.0 })).unwrap();
        assert_eq!(all, plain, "a factor of 1 changes nothing");
        let taps = model.tap(&sequence).unwrap();
        assert_eq!(model.tap_attention(&sequence, 2).unwrap(), taps.attention[2]);
        let states = model.tap_states(&sequence).unwrap();
        for (layer, state) in states.iter().enumerate() {
            assert_eq!(Some(state.as_slice()), taps.state(layer, 39), "the state of the last token");
        }
        assert_eq!(
            model.read_out(&states[3]).unwrap(),
            plain,
            "the last layer's lens is the model's own word"
        );
        for mask in [
            HeadMask { layer: 3, keep: 0, factor: 0.0 },
            HeadMask { layer: 0, keep: 4, factor: 0.0 },
            HeadMask { layer: 0, keep: 0, factor: f32::NAN },
        ] {
            let error = model.tap_next(&sequence, Some(mask)).unwrap_err().to_string();
            assert!(error.contains("hint:"), "{error}");
        }
        assert!(model.tap_attention(&sequence, 3).is_err());
    }
}
