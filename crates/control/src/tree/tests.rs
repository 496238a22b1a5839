use super::*;
use crate::ControlError;
use async_trait::async_trait;
use proptest::prelude::*;

const WIDE: Extremes = Extremes { low: -1.0, high: 1.0 };

fn statistics(value: f64, prior: f64, visits: f64) -> Statistics {
    Statistics { prior, visits, true_visits: visits as u64, value }
}

/// Data with a likeness of its own.
#[derive(Debug, Clone, Default)]
struct Leaf {
    name: String,
    likeness: Option<Likeness>,
}

impl Alike for Leaf {
    fn likeness(&self) -> Option<&Likeness> {
        self.likeness.as_ref()
    }
}

fn leaf(name: &str) -> Child<Leaf> {
    Child { prior: 0.5, data: Leaf { name: name.into(), likeness: None } }
}

#[test]
fn puct_of_the_sheet() {
    let puct = Puct { exploration: 2.0, normalise: true };
    let parent = statistics(0.0, 1.0, 9.0);
    let score = |value, prior, visits| puct.score(&parent, &statistics(value, prior, visits), &WIDE);
    assert!((score(0.5, 0.6, 6.0) - 1.2642819643).abs() < 1e-9);
    assert!((score(-1.0, 0.3, 3.0) - 0.45).abs() < 1e-9);
    assert!((score(0.0, 0.1, 0.0) - 0.6).abs() < 1e-9);
    // Without normalisation: sheet 50, w = 1, four visits of the parent.
    let plain = Puct { exploration: 1.0, normalise: false };
    let parent = statistics(0.0, 1.0, 4.0);
    let (first, second) = (statistics(1.6, 0.776252, 3.0), statistics(-0.4, 0.776252, 1.0));
    assert!((plain.score(&parent, &first, &WIDE) - 1.988126).abs() < 1e-6);
    assert!((plain.score(&parent, &second, &WIDE) - 0.376252).abs() < 1e-6);
}

#[test]
fn uct_of_the_training_papers() {
    let parent = statistics(0.0, 1.0, 6.0);
    let once = Uct { exploration: 1.0, factor: 1.0 };
    for (sum, visits, wanted) in [(1.8, 2.0, 1.8465092), (1.6, 3.0, 1.3061549), (0.2, 1.0, 1.5385662)] {
        let score = once.score(&parent, &statistics(sum / visits, 0.0, visits), &WIDE);
        assert!((score - wanted).abs() < 1e-6, "{score}");
    }
    let twice = Uct { exploration: 0.5, factor: 2.0 };
    let parent = statistics(0.0, 1.0, 4.0);
    assert!((twice.score(&parent, &statistics(7.0, 0.0, 2.0), &WIDE) - 7.5887050).abs() < 1e-6);
    assert!((twice.score(&parent, &statistics(6.0, 0.0, 1.0), &WIDE) - 6.8325546).abs() < 1e-6);
    assert_eq!(twice.score(&parent, &statistics(0.0, 0.0, 0.0), &WIDE), f64::INFINITY, "unvisited first");
}

#[test]
fn selection_takes_the_highest_and_of_several_the_first() {
    let mut tree = Tree::new(Leaf::default(), WIDE);
    let puct = Puct { exploration: 2.0, normalise: true };
    assert_eq!(select(&tree, &puct, tree.root()), None);
    let nodes: Vec<NodeIndex> = ["a", "b", "c"].map(|name| tree.add(tree.root(), leaf(name))).into();
    tree.node_mut(tree.root()).statistics = statistics(0.0, 1.0, 9.0);
    for (node, s) in
        nodes.iter().zip([statistics(0.5, 0.6, 6.0), statistics(-1.0, 0.3, 3.0), statistics(0.0, 0.1, 0.0)])
    {
        tree.node_mut(*node).statistics = s;
    }
    assert_eq!(select(&tree, &puct, tree.root()), Some(nodes[0]));
    tree.node_mut(nodes[1]).statistics = statistics(0.5, 0.6, 6.0);
    assert_eq!(select(&tree, &puct, tree.root()), Some(nodes[0]));
}

#[test]
fn siblings_that_are_alike_share_a_value_and_not_a_visit() {
    let mut sibling = statistics(-0.2, 0.1, 3.0);
    sibling.take(1.0, 0.2 * 0.97);
    assert!((sibling.visits - 3.194).abs() < 1e-12);
    assert!((sibling.value + 0.1271133375).abs() < 1e-9);
    assert_eq!(sibling.true_visits, 3, "shared values are no true visits");

    // The same through the tree: two siblings with a cosine of 0.97, a third at a right angle, a fourth unknown.
    let mut tree = Tree::new(Leaf::default(), WIDE);
    let root = tree.root();
    let nodes: Vec<NodeIndex> = ["a", "b", "c", "d"].map(|name| tree.add(root, leaf(name))).into();
    let angle = 0.97f32.acos();
    for (node, vector) in nodes.iter().zip([[1.0, 0.0], [angle.cos(), angle.sin()], [0.0, 1.0]]) {
        tree.node_mut(*node).data.likeness = Likeness::embedding(&vector);
    }
    tree.node_mut(nodes[1]).statistics = statistics(-0.2, 0.1, 3.0);
    let share = ShareAlike { least: 0.95, share: 0.2 };
    share.back_up(&mut tree, &[root, nodes[0]], 1.0);
    assert!((tree.statistics(nodes[1]).value + 0.1271133375).abs() < 1e-6);
    assert!((tree.statistics(nodes[1]).visits - 3.194).abs() < 1e-6);
    assert_eq!(tree.statistics(nodes[1]).true_visits, 3);
    assert_eq!((tree.statistics(nodes[2]).visits, tree.statistics(nodes[3]).visits), (0.0, 0.0));
    assert_eq!((tree.statistics(nodes[0]).visits, tree.statistics(nodes[0]).true_visits), (1.0, 1));
    assert_eq!(tree.statistics(root).value, 1.0);

    let mut alone = tree.clone();
    ShareAlike { least: 0.95, share: 0.0 }.back_up(&mut alone, &[root, nodes[0]], -1.0);
    assert_eq!(alone.statistics(nodes[1]), tree.statistics(nodes[1]), "the ablation shares nothing");
}

#[test]
fn extremes_run_over_mean_values() {
    let mut tree = Tree::new(Leaf::default(), Extremes { low: 0.4, high: 0.6 });
    let root = tree.root();
    let node = tree.add(root, leaf("a"));
    RunningMean.back_up(&mut tree, &[root, node], 1.0);
    assert_eq!(*tree.extremes(), Extremes { low: 0.4, high: 1.0 });
    RunningMean.back_up(&mut tree, &[root, node], -1.0);
    assert_eq!(*tree.extremes(), Extremes { low: 0.0, high: 1.0 }, "means, not single values");
}

#[test]
fn a_new_root_keeps_its_subtree_and_drops_the_rest() {
    let mut tree = Tree::new(Leaf::default(), WIDE);
    let root = tree.root();
    let [a, b] = ["a", "b"].map(|name| tree.add(root, leaf(name)));
    let [ba, bb] = ["ba", "bb"].map(|name| tree.add(b, leaf(name)));
    let baa = tree.add(ba, leaf("baa"));
    tree.add(a, leaf("aa"));
    RunningMean.back_up(&mut tree, &[root, b, ba, baa], 0.5);
    RunningMean.back_up(&mut tree, &[root, b, bb], -0.5);
    assert_eq!((tree.depth(baa), tree.path(baa)), (3, vec![root, b, ba, baa]));
    tree.reroot(b);
    assert_eq!(tree.len(), 4);
    let root = tree.root();
    assert_eq!((tree.data(root).name.as_str(), tree.parent(root)), ("b", None));
    assert_eq!((tree.statistics(root).visits, tree.statistics(root).value), (2.0, 0.0));
    let names: Vec<&str> = tree.children(root).iter().map(|c| tree.data(*c).name.as_str()).collect();
    assert_eq!(names, ["ba", "bb"]);
    let ba = tree.children(root)[0];
    assert_eq!(tree.statistics(ba).value, 0.5);
    assert_eq!(tree.data(tree.children(ba)[0]).name, "baa");
    assert_eq!(tree.siblings(ba).collect::<Vec<_>>(), [tree.children(root)[1]]);
}

#[test]
fn most_visited_counts_true_visits_and_then_values() {
    let mut tree = Tree::new(Leaf::default(), WIDE);
    let root = tree.root();
    let nodes: Vec<NodeIndex> = ["a", "b", "c"].map(|name| tree.add(root, leaf(name))).into();
    for (node, visits, true_visits, value) in
        [(nodes[0], 9.0, 4, 0.9), (nodes[1], 5.0, 5, 0.1), (nodes[2], 5.0, 5, 0.3)]
    {
        tree.node_mut(node).statistics = Statistics { prior: 0.3, visits, true_visits, value };
    }
    assert_eq!(tree.most_visited(root), Some(nodes[2]), "inflated visits do not count");
}

#[test]
fn likeness_of_words_is_marked_by_overlap() {
    let words = |text: &str| Likeness::words(text).unwrap();
    assert_eq!(words("take the axe").similarity(&words("take the axe.")), Some(1.0));
    assert_eq!(words("take the axe").similarity(&words("take the key")), Some(0.5));
    assert!(Likeness::words("...").is_none() && Likeness::embedding(&[0.0, 0.0]).is_none());
    assert!(Likeness::embedding(&[f32::NAN]).is_none());
    let mut mean = words("a b");
    mean.take(&words("a c"));
    // a in both, b and c in half of them; against {a}: 1 / (1 + 0.5 + 0.5).
    assert_eq!(mean.similarity(&words("a")), Some(0.5));
    assert_eq!(mean.similarity(&Likeness::embedding(&[1.0]).unwrap()), None, "no number between kinds");
    let mut vectors = Likeness::embedding(&[3.0, 0.0]).unwrap();
    vectors.take(&Likeness::embedding(&[0.0, 5.0]).unwrap());
    let cosine = vectors.similarity(&Likeness::embedding(&[1.0, 0.0]).unwrap()).unwrap();
    assert!((cosine - 0.5f64.sqrt()).abs() < 1e-9, "means of directions, not of lengths: {cosine}");
}

#[test]
fn spread_is_the_norm_of_the_variances() {
    let of = |vectors: &[[f32; 2]]| {
        let all: Vec<Likeness> = vectors.iter().map(|v| Likeness::embedding(v).unwrap()).collect();
        spread(&all.iter().collect::<Vec<_>>())
    };
    assert_eq!(of(&[[1.0, 0.0]]), 0.0);
    assert_eq!(of(&[[1.0, 0.0], [1.0, 0.0]]), 0.0);
    // Components 1, 0 and 0, 1: variance 1/4 each.
    assert!((of(&[[1.0, 0.0], [0.0, 1.0]]) - 0.125f64.sqrt()).abs() < 1e-9);
    let words: Vec<Likeness> = ["a", "b"].map(|t| Likeness::words(t).unwrap()).into();
    assert!((spread(&[&words[0], &words[1]]) - 0.125f64.sqrt()).abs() < 1e-9);
}

/// Counts up to three letters; the text `bad` letters are worth −1.
struct Letters {
    expanded: Vec<String>,
    evaluated: usize,
    silent: bool,
}

#[async_trait]
impl Explorer<Leaf> for Letters {
    fn is_terminal(&self, data: &Leaf) -> bool {
        data.name.len() == 3
    }

    async fn expand(&mut self, tree: &Tree<Leaf>, node: NodeIndex) -> Result<Vec<Child<Leaf>>, ControlError> {
        let name = &tree.data(node).name;
        self.expanded.push(name.clone());
        Ok(["g", "b"].map(|letter| leaf(&format!("{name}{letter}"))).into())
    }

    async fn evaluate(
        &mut self,
        tree: &mut Tree<Leaf>,
        path: &[NodeIndex],
    ) -> Result<Option<f64>, ControlError> {
        self.evaluated += 1;
        let name = path.last().map(|node| tree.data(*node).name.clone()).unwrap_or_default();
        Ok((!self.silent).then_some(if name.contains('b') { -1.0 } else { 1.0 }))
    }
}

fn letters(silent: bool, searches: usize) -> (Tree<Leaf>, Letters) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut explorer = Letters { expanded: Vec::new(), evaluated: 0, silent };
    let mut tree = Tree::new(Leaf::default(), WIDE);
    runtime.block_on(async {
        for _ in 0..searches {
            let puct = Puct { exploration: 2.0, normalise: true };
            search(&mut tree, &puct, &RunningMean, &mut explorer).await.unwrap();
        }
    });
    (tree, explorer)
}

#[test]
fn search_finds_the_better_branch_and_expands_only_what_it_comes_back_to() {
    let (tree, explorer) = letters(false, 40);
    let best = tree.most_visited(tree.root()).unwrap();
    assert_eq!(tree.data(best).name, "g");
    let [good, bad] = [0, 1].map(|i| *tree.statistics(tree.children(tree.root())[i]));
    assert!(good.true_visits > 2 * bad.true_visits && good.value > 0.3 && bad.value == -1.0);
    let visits: u64 = tree.children(tree.root()).iter().map(|c| tree.statistics(*c).true_visits).sum();
    assert_eq!((visits + 1, explorer.evaluated), (40, 40), "the first search looks at the root itself");
    let mut expanded = explorer.expanded.clone();
    expanded.dedup();
    assert_eq!(expanded.len(), explorer.expanded.len(), "nothing is expanded twice");
    assert!(explorer.expanded.iter().all(|name| name.len() < 3), "a terminal node has no continuation");
    let (tree, explorer) = letters(false, 2);
    assert_eq!((explorer.expanded.as_slice(), tree.len()), (&[String::new()][..], 3));
}

#[test]
fn an_evaluator_that_abstains_changes_nothing() {
    let (tree, explorer) = letters(true, 5);
    assert_eq!((explorer.evaluated, tree.statistics(tree.root()).visits, tree.len()), (5, 0.0, 1));
}

proptest! {
    #[test]
    fn means_stay_within_the_values_backed_up(values in proptest::collection::vec(-1.0f64..1.0, 1..40)) {
        let mut tree = Tree::new(Leaf::default(), WIDE);
        let root = tree.root();
        let nodes: Vec<NodeIndex> = (0..3).map(|i| tree.add(root, leaf(&i.to_string()))).collect();
        for node in &nodes {
            tree.node_mut(*node).data.likeness = Likeness::embedding(&[1.0, 0.1]);
        }
        for (i, value) in values.iter().enumerate() {
            ShareAlike { least: 0.95, share: 0.2 }.back_up(&mut tree, &[root, nodes[i % 3]], *value);
        }
        let (low, high) = values.iter().fold((1.0f64, -1.0f64), |(l, h), v| (l.min(*v), h.max(*v)));
        for node in nodes.iter().chain([&root]) {
            let s = tree.statistics(*node);
            prop_assert!(s.visits == 0.0 || (s.value >= low - 1e-9 && s.value <= high + 1e-9));
            prop_assert!(s.visits >= s.true_visits as f64);
        }
        prop_assert_eq!(tree.statistics(root).true_visits, values.len() as u64);
    }
}
