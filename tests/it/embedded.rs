//! The private Postgres: nothing is written outside its folder, nobody else may write there, and its lock cannot be held by others.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use outdial::db::embedded::{self, Settings};
use sqlx::{Connection, PgConnection};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = Path::new("/dev/shm").join(format!("outdial-embedded-{name}-{}", std::process::id()));
        fs::create_dir(&folder).expect("a folder");
        Self(folder)
    }

    fn settings(&self) -> Settings {
        Settings {
            folder: self.0.join("db"),
            bin_dir: PathBuf::new(),
            extra: vec![("fsync", "off"), ("shared_buffers", "16MB")],
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn start_and_stop(settings: &Settings) {
    let server = embedded::start(settings).await.expect("it starts");
    let mut connection = PgConnection::connect_with(server.options()).await.expect("connect");
    let (jit, buffers): (String, String) =
        sqlx::query_as("select current_setting('jit'), current_setting('shared_buffers')")
            .fetch_one(&mut connection)
            .await
            .expect("settings");
    assert_eq!((jit.as_str(), buffers.as_str()), ("off", "16MB"));
    drop(connection);
    tokio::task::spawn_blocking(move || server.stop()).await.expect("stopped");
}

/// Links that the account of the database has planted lead nowhere: what they point to keeps its content and its owner.
/// (95e55f8, as root, wrote and gave away what `postgresql.auto.conf` pointed to.)
#[tokio::test(flavor = "multi_thread")]
async fn no_link_in_the_databases_folder_is_followed() {
    let folder = Folder::new("links");
    let settings = folder.settings();
    start_and_stop(&settings).await;
    let (data, socket) = (settings.folder.join("data"), settings.folder.join("socket"));
    let mut victims = Vec::new();
    for (nth, planted) in [
        data.join("postgresql.auto.conf"),
        data.join("postmaster.pid"),
        socket.join(".s.PGSQL.5432.lock"),
        data.join("postgresql.auto.conf.tmp"),
    ]
    .into_iter()
    .enumerate()
    {
        let victim = folder.0.join(format!("victim-{nth}"));
        fs::write(&victim, "# mine\n").expect("a victim");
        let _ = fs::remove_file(&planted);
        symlink(&victim, &planted).expect("a link");
        let kept = fs::metadata(&victim).expect("metadata");
        victims.push((victim, kept.uid(), kept.mode()));
    }
    start_and_stop(&settings).await;
    for (victim, uid, mode) in victims {
        let is = fs::metadata(&victim).expect("metadata");
        assert_eq!((is.uid(), is.mode()), (uid, mode), "{}", victim.display());
        assert_eq!(fs::read_to_string(&victim).expect("read"), "# mine\n", "{}", victim.display());
    }
}

/// A folder that others may write to, itself or above, is refused with the way out; its lock can be opened by nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_others_is_refused() {
    let folder = Folder::new("others");
    let settings = folder.settings();
    start_and_stop(&settings).await;
    let lock = fs::metadata(settings.folder.join("owner.lock")).expect("the lock");
    assert_eq!(lock.mode() & 0o777, 0o600);
    if lock.uid() == 0 {
        let held = Command::new("setpriv")
            .args(["--reuid=65534", "--clear-groups", "--", "flock", "--nonblock"])
            .arg(settings.folder.join("owner.lock"))
            .arg("true")
            .status()
            .expect("setpriv and flock run");
        assert!(!held.success(), "another account held the lock");
    }
    for (path, mode) in [(&settings.folder, 0o777), (&settings.folder, 0o731), (&folder.0, 0o777)] {
        let before = fs::metadata(path).expect("metadata").mode();
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("opened");
        let refused = embedded::start(&settings).await.expect_err("refused").to_string();
        assert!(refused.contains("database.data_dir") && refused.contains("chmod go-w"), "{refused}");
        fs::set_permissions(path, Permissions::from_mode(before)).expect("closed");
    }
    start_and_stop(&settings).await;
}
