//! What counts when the files that decisions come from change, or cannot be used.

use std::fs;
use std::time::SystemTime;

use super::*;

const SHUT: &str = "@id(\"shut\")\nforbid (principal, action, resource);\n";
const OPEN: &str = "@id(\"open\")\npermit (principal, action, resource);\n";

fn write_policy(home: &Home, text: &str) {
    fs::create_dir_all(home.policy_dir()).expect("made");
    fs::write(home.policy_file(), text).expect("written");
}

#[test]
fn who_is_revoked_stays_so_where_policy_or_configuration_is_broken() {
    let (_dir, home, border) = border();
    let revoked = push(&border, "eu", Tier::Public, "public").to;
    let other = push(&border, "dc", Tier::Private, "public").to;
    change(&home, |roles| roles.revoke_identity(&(&revoked.id).into()));
    let mark = border.roles().expect("the CA signed them");
    let older = RolesMark { version: mark.version, digest: crate::base::Digest([7; 32]) };
    let counts = |border: &Border, when: &str| {
        border.look_again();
        assert!(matches!(border.standing(&revoked), Err(Denied::Revoked(_))), "{when}");
        border.standing(&other).expect(when);
        assert_eq!((border.roles(), border.roles_version()), (Some(mark), 1), "{when}");
        assert_eq!((border.follows(mark), border.follows(older)), (Follow::Same, Follow::Fork));
    };
    let denied = |border: &Arc<Border>| {
        let inside = border.would(&push(border, "dc", Tier::Private, "internal"));
        assert!(matches!(inside, Err(Denied::Policy(_))), "{inside:?}");
        let revoked = border.would(&push(border, "eu", Tier::Public, "public"));
        assert!(matches!(revoked, Err(Denied::Revoked(_))), "{revoked:?}");
    };
    counts(&border, "all is well");
    write_policy(&home, "permit (nonsense");
    counts(&border, "a broken policy");
    denied(&border);
    write_policy(&home, OPEN);
    counts(&border, "a policy again");
    let config = Config::load(&home, [], &[]).expect("a configuration");
    fs::write(home.config_file(), "no [configuration").expect("written");
    counts(&border, "a broken configuration");
    denied(&border);
    let fresh = Arc::new(Border::open(&home, &config, border.identity()));
    counts(&fresh, "a broken configuration at first");
    denied(&fresh);
}

#[test]
fn where_the_roles_cannot_be_read_nobody_but_the_node_itself_stands() {
    let (_dir, home, border) = border();
    let peer = push(&border, "dc", Tier::Private, "public").to;
    let somebody: Principal = "spiffe://d/tier/public/site/s/node/n".parse().expect("an id");
    change(&home, |roles| roles.revoke_identity(&somebody));
    border.standing(&peer).expect("it is not revoked");
    fs::write(home.roles_file(), "damaged").expect("written");
    border.look_again();
    let denied = border.standing(&peer);
    assert!(
        matches!(&denied, Err(Denied::Policy(why)) if why.contains("roles.bundle")),
        "{denied:?}"
    );
    border.standing(&border.ourselves()).expect("the node asks itself");
    let newer = RolesMark { version: 9, digest: crate::base::Digest([7; 32]) };
    assert_eq!((border.roles(), border.follows(newer)), (None, Follow::Stay));
}

#[test]
fn a_policy_that_changes_in_place_within_one_tick_is_seen_though_its_length_is_the_same() {
    let (_dir, home, border) = border();
    let ask = push(&border, "dc", Tier::Private, "internal");
    // As editors do that keep the time, and as coarse clocks do by themselves.
    let write = |text: &str| {
        write_policy(&home, text);
        let file = fs::File::options().write(true).open(home.policy_file()).expect("there");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("set");
        border.look_again();
    };
    write(OPEN);
    border.would(&ask).expect("granted");
    let inode =
        || std::os::unix::fs::MetadataExt::ino(&fs::metadata(home.policy_file()).expect("a file"));
    let before = inode();
    sleep(Duration::from_millis(20));
    write(SHUT);
    assert_eq!((inode(), OPEN.len()), (before, SHUT.len()));
    assert!(matches!(border.would(&ask), Err(Denied::Policy(why)) if why.contains("shut")));
}
