//! The newest checkpoint, and the ones that go, over a real directory.

use std::fs;

use super::*;
use crate::base::FileTime;
use crate::manifest::{Entry, EntryKind, RootHasher};
use crate::runtime::manifest_file::ManifestWriter;
use crate::storage::Method;

fn path(text: &str) -> RelPath {
    RelPath::from_typed(text.as_bytes()).unwrap()
}

struct Scene {
    dir: tempfile::TempDir,
    root: Root,
}

impl Scene {
    /// Snapshots of `runs` from `trainer`, each of one file.
    fn of(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), Method::default()).unwrap();
        let scene = Self { dir, root };
        storage::mkdir_all(&*scene.root.tree, &manifests_path()).unwrap();
        for name in names {
            scene.publish(name, "trainer");
        }
        scene
    }

    fn publish(&self, name: &str, source: &str) {
        let at = path("runs").join(name.as_bytes()).unwrap();
        fs::create_dir_all(self.dir.path().join("runs").join(name)).unwrap();
        fs::write(self.dir.path().join("runs").join(name).join("model"), "weights").unwrap();
        let (tree, published) = (&*self.root.tree, Layout::of(&at).published);
        let mut writer = ManifestWriter::create(tree, &published, source, &at).unwrap();
        let (path, mtime) = (RelPath::root(), FileTime::default());
        let top = Entry { path, kind: EntryKind::Dir, mode: 0o755, mtime };
        let mut root = RootHasher::default();
        root.push(&top, None);
        writer.push(&top, None, &[]).unwrap();
        writer.finish(root.finish(), 1).unwrap();
    }

    fn retain(&self, last: u32, every: Option<u64>) -> Retained {
        let keep = Keep { last, every };
        retain(&self.root, (&path("runs"), "trainer"), keep, |_| Ok(())).unwrap()
    }

    fn left(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path().join("runs")).unwrap();
        let mut names: Vec<String> =
            names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable_by(|a, b| rank(a.as_bytes()).cmp(&rank(b.as_bytes())));
        names
    }

    fn newest(&self, after: Option<&str>) -> Option<String> {
        let found =
            newest(&*self.root.tree, &path("runs"), after.map(str::as_bytes), |_| true).unwrap();
        found.map(|found| String::from_utf8(found.name).unwrap())
    }
}

#[test]
fn a_step_is_the_last_number_up_to_the_first_dot() {
    let step = |name: &str| step_of(name.as_bytes());
    assert_eq!(step("step-1000"), Some(1000));
    assert_eq!(step("epoch3-step0042.h5"), Some(42));
    assert_eq!(step("7"), Some(7));
    assert_eq!(step("12-final"), Some(12));
    assert_eq!(step("final"), None);
    assert_eq!(step(".5"), None);
    assert_eq!(step("step-99999999999999999999999"), None);
}

#[test]
fn the_newest_has_the_highest_step_and_a_whole_manifest() {
    let scene = Scene::of(&["step-9", "step-10", "final"]);
    fs::create_dir(scene.dir.path().join("runs/step-11")).unwrap();
    assert_eq!(scene.newest(None).as_deref(), Some("step-10"));
    assert_eq!(scene.newest(Some("step-10")), None);
    scene.publish("step-12", "trainer");
    assert_eq!(scene.newest(Some("step-10")).as_deref(), Some("step-12"));

    let manifest = Layout::of(&path("runs/step-12")).published;
    let manifest = scene.dir.path().join(OsStr::from_bytes(manifest.as_bytes()));
    let whole = fs::read(&manifest).unwrap();
    fs::write(&manifest, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(scene.newest(None).as_deref(), Some("step-10"), "a damaged one is not complete");
    let missing = newest(&*scene.root.tree, &path("none"), None, |_| true).unwrap_err();
    assert_eq!(missing.code, "not-found");
}

#[test]
fn retention_keeps_the_last_and_every_nth() {
    let scene = Scene::of(&["step-1", "step-2", "step-3", "step-4", "step-5", "step-6", "best"]);
    scene.publish("step-0", "another");
    fs::create_dir(scene.dir.path().join("runs/step-00")).unwrap();
    let retained = scene.retain(2, Some(3));
    assert_eq!(retained.removed, ["step-4", "step-2", "step-1"]);
    assert_eq!(scene.left(), ["best", "step-0", "step-00", "step-3", "step-5", "step-6"]);
    assert!(!storage::exists(&*scene.root.tree, &Layout::of(&path("runs/step-1")).published));
    assert_eq!(scene.retain(2, Some(3)), Retained::default());
    assert_eq!(scene.retain(0, None).removed, ["step-5", "step-3"], "one is always kept");
}

#[test]
fn what_is_in_use_stays_until_it_is_not() {
    let scene = Scene::of(&["step-1", "step-2", "step-3", "step-4"]);
    let reading = scene.root.readers.begin(&path("runs/step-1/model"));
    let local = File::open(scene.dir.path().join("runs/step-2")).unwrap();
    local.lock_shared().unwrap();
    let writing = scene.root.lock_out_writers(&path("runs/step-3")).unwrap().unwrap();
    let retained = scene.retain(1, None);
    assert_eq!(retained.in_use, ["step-3", "step-2", "step-1"]);
    assert_eq!(scene.left().len(), 4);
    drop((reading, local, writing));
    assert_eq!(scene.retain(1, None).removed, ["step-3", "step-2", "step-1"]);
}

#[test]
fn a_removal_that_a_crash_interrupted_is_finished() {
    let scene = Scene::of(&["step-1", "step-2"]);
    let tree = &*scene.root.tree;
    storage::mkdir_all(tree, &trash_path()).unwrap();
    for name in ["runs/step-1", "runs/step-2"] {
        let trash = trash_path().join(key_of(&path(name)).as_bytes()).unwrap();
        tree.rename(&path(name), &trash, false).unwrap();
    }
    // The second was pushed again since.
    scene.publish("step-2", "trainer");
    scene.root.recover().unwrap();
    assert_eq!(tree.list(&trash_path()).unwrap(), []);
    assert!(!storage::exists(tree, &Layout::of(&path("runs/step-1")).published));
    assert_eq!(scene.newest(None).as_deref(), Some("step-2"));
}

#[test]
fn a_removal_that_is_under_way_is_left_to_who_does_it() {
    let scene = Scene::of(&["step-1"]);
    let (tree, at) = (&*scene.root.tree, path("runs/step-1"));
    storage::mkdir_all(tree, &trash_path()).unwrap();
    let trash = trash_path().join(key_of(&at).as_bytes()).unwrap();
    let removing = scene.root.lock_out_writers(&at).unwrap().unwrap();
    tree.rename(&at, &trash, false).unwrap();
    scene.root.recover().unwrap();
    assert!(storage::exists(tree, &trash));
    assert!(storage::exists(tree, &Layout::of(&at).published));
    drop(removing);
    scene.root.recover().unwrap();
    assert!(!storage::exists(tree, &trash));
}

/// A history by a seed: checkpoints are published, read in every way there is, and retained, and the
/// node crashes in the middle of removals. Whatever is read stays whole, and what retention leaves is
/// what a model of it says.
#[test]
fn nothing_that_is_read_is_ever_removed() {
    for seed in 0..40 {
        History::new(seed).run(80);
    }
}

struct History {
    scene: Scene,
    rng: crate::sim::rng::Rng,
    /// Steps that are there, of `trainer` and of another source.
    there: std::collections::BTreeMap<u64, bool>,
    next: u64,
    /// Local readers: programs of this machine.
    held: Vec<(u64, File)>,
    story: Vec<String>,
}

impl History {
    fn new(seed: u64) -> Self {
        let rng = crate::sim::rng::Rng::new(seed);
        let story = vec![format!("seed {seed}")];
        let there = std::collections::BTreeMap::new();
        Self { scene: Scene::of(&[]), rng, there, next: 1, held: Vec::new(), story }
    }

    fn run(mut self, events: usize) {
        for _ in 0..events {
            match self.rng.below(10) {
                0..=3 => self.publish(),
                4..=5 => self.hold(),
                6 => drop((!self.held.is_empty()).then(|| self.held.remove(0))),
                7..=8 => self.retain(),
                _ => self.crash(),
            }
            self.check();
        }
    }

    fn publish(&mut self) {
        let (step, ours) = (self.next, self.rng.below(5) > 0);
        self.next += 1 + self.rng.below(3);
        let source = if ours { "trainer" } else { "another" };
        self.story.push(format!("{source} publishes {step}"));
        self.scene.publish(&format!("step-{step}"), source);
        self.there.insert(step, ours);
    }

    fn some(&mut self) -> Option<u64> {
        let steps: Vec<u64> = self.there.keys().copied().collect();
        (!steps.is_empty()).then(|| steps[self.rng.below(steps.len() as u64) as usize])
    }

    fn hold(&mut self) {
        let Some(step) = self.some() else { return };
        self.story.push(format!("a program reads {step}"));
        let file = File::open(self.scene.dir.path().join(format!("runs/step-{step}"))).unwrap();
        file.lock_shared().unwrap();
        self.held.push((step, file));
    }

    /// Retention, while peers read some of them.
    fn retain(&mut self) {
        if self.there.is_empty() {
            return;
        }
        let (last, every) = (1 + self.rng.below(4) as u32, 2 + self.rng.below(4));
        let every = (self.rng.below(2) == 0).then_some(every);
        let pulled: Vec<u64> = (0..self.rng.below(3)).filter_map(|_| self.some()).collect();
        self.story.push(format!("keep {last}, every {every:?}, while {pulled:?} are pulled"));
        let name = |step: &u64| path(&format!("runs/step-{step}/model"));
        let reading: Vec<_> =
            pulled.iter().map(|step| self.scene.root.readers.begin(&name(step))).collect();
        let retained = self.scene.retain(last, every);
        drop(reading);
        let ours = self.there.iter().filter(|(_, ours)| **ours).map(|(step, _)| *step);
        let ours: Vec<u64> = ours.rev().collect();
        let in_use = |step: &u64| pulled.contains(step) || self.held.iter().any(|it| it.0 == *step);
        let goes = |step: &&u64| {
            let newer = ours.iter().filter(|other| other > step).count();
            newer >= last as usize && every.is_none_or(|every| !step.is_multiple_of(every))
        };
        let (stay, go): (Vec<u64>, Vec<u64>) =
            ours.iter().filter(goes).partition(|step| in_use(step));
        let names = |steps: &[u64]| steps.iter().map(|s| format!("step-{s}")).collect::<Vec<_>>();
        assert_eq!(retained.removed, names(&go), "{:#?}", self.story);
        assert_eq!(retained.in_use, names(&stay), "{:#?}", self.story);
        self.there.retain(|step, _| !go.contains(step));
    }

    /// The node dies after it took one away that nobody reads, and comes back.
    fn crash(&mut self) {
        let Some(step) = self.some() else { return };
        if self.held.iter().any(|it| it.0 == step) {
            return;
        }
        self.story.push(format!("it dies while it removes {step}"));
        let (at, tree) = (path(&format!("runs/step-{step}")), &*self.scene.root.tree);
        storage::mkdir_all(tree, &trash_path()).unwrap();
        let trash = trash_path().join(key_of(&at).as_bytes()).unwrap();
        tree.rename(&at, &trash, false).unwrap();
        if self.rng.below(2) == 0 {
            forget(tree, &at).unwrap();
        }
        assert_eq!(empty_trash(tree, |_| Ok(Some(()))).unwrap(), []);
        assert!(!storage::exists(tree, &trash), "{:#?}", self.story);
        self.there.remove(&step);
    }

    fn check(&self) {
        let left: Vec<String> = self.there.keys().map(|step| format!("step-{step}")).collect();
        let found = if left.is_empty() { Vec::new() } else { self.scene.left() };
        assert_eq!(found, left, "{:#?}", self.story);
        for step in self.there.keys() {
            let at = path(&format!("runs/step-{step}"));
            let model = self.scene.dir.path().join(format!("runs/step-{step}/model"));
            assert_eq!(fs::read(model).unwrap(), b"weights", "{:#?}", self.story);
            let tree = &*self.scene.root.tree;
            assert!(storage::exists(tree, &Layout::of(&at).published), "{:#?}", self.story);
        }
    }
}
