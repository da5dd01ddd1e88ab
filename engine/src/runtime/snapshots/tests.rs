//! The newest checkpoint, and the ones that go, over a real directory.

use std::fs;

use super::*;
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
        let root = crate::manifest::RootHasher::default().finish();
        writer.finish(root, 0).unwrap();
    }

    fn retain(&self, last: u32, every: Option<u64>) -> Retained {
        retain(&self.root, &path("runs"), "trainer", Keep { last, every }).unwrap()
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
