//! A PostgreSQL server of the tests' own, in a temporary folder on a Unix socket; also used by the tests of `serve`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// A server; it ends with this value.
pub struct PostgresServer {
    programs: PathBuf,
    folder: tempfile::TempDir,
    running: Mutex<Option<Child>>,
    databases: AtomicUsize,
}

/// The folder of `initdb` and `postgres`, the newest of several; `None` where PostgreSQL is not installed.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut versions: Vec<PathBuf> =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|e| e.path()).collect();
    versions.sort();
    folders.extend(versions.into_iter().rev().map(|version| version.join("bin")));
    folders.into_iter().find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

impl PostgresServer {
    /// A server of this test's own. `None`, said on standard error, where PostgreSQL is not installed.
    pub fn start() -> Option<PostgresServer> {
        let Some(programs) = programs() else {
            eprintln!("skipped: no PostgreSQL on this machine (Debian: apt-get install postgresql)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let server =
            PostgresServer { programs, folder, running: Mutex::new(None), databases: AtomicUsize::new(0) };
        if let Some((user, group)) = server.other_user() {
            std::os::unix::fs::chown(server.folder.path(), Some(user), Some(group)).unwrap();
        }
        let made = server
            .command("initdb")
            .args(["--username=tester", "--auth=trust", "--encoding=UTF8", "--no-sync", "-D"])
            .arg(server.folder.path().join("data"))
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        server.run();
        Some(server)
    }

    /// The server that the tests of this program share; it ends when none of them holds it.
    pub fn shared() -> Option<Arc<PostgresServer>> {
        static SHARED: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Arc::new(PostgresServer::start()?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// PostgreSQL refuses to run as the superuser: then another user of this machine runs it.
    fn other_user(&self) -> Option<(u32, u32)> {
        use std::os::unix::fs::MetadataExt;
        // A file that this process makes belongs to whom it runs as.
        let own = tempfile::tempfile().unwrap().metadata().unwrap().uid();
        if own != 0 {
            return None;
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap();
        ["postgres", "nobody"].iter().find_map(|name| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
    }

    fn command(&self, program: &str) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((user, group)) = self.other_user() {
            command.uid(user).gid(group);
        }
        command
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it and waits until it takes connections.
    pub fn run(&self) {
        let log = std::fs::File::options().create(true).append(true).open(self.path().join("log")).unwrap();
        let mut socket = OsString::from("unix_socket_directories=");
        socket.push(self.path());
        let child = self
            .command("postgres")
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200", "-c"])
            .arg(socket)
            .arg("-D")
            .arg(self.path().join("data"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.running.lock().unwrap() = Some(child);
        let begun = Instant::now();
        while self.try_execute("postgres", "SELECT 1").is_err() {
            let log = || std::fs::read_to_string(self.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(60), "PostgreSQL does not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it at once, as a crash does: connections break, and what was not committed is lost.
    pub fn crash(&self) {
        self.end("-QUIT");
    }

    fn end(&self, signal: &str) {
        let Some(mut child) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        // Its own processes end with it.
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
        if !sent.is_ok_and(|status| status.success()) {
            let _ = child.kill();
        }
        let _ = child.wait();
    }

    /// The address of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user=tester", self.path().display())
    }

    /// A new, empty database.
    pub fn database(&self) -> String {
        let name = format!("d{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    fn try_execute(&self, database: &str, statement: &str) -> Result<String, String> {
        let url = self.url(database);
        // A thread of its own, because the caller may be in a runtime.
        std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
                        .await
                        .map_err(|e| format!("{e:?}"))?;
                    tokio::spawn(connection);
                    let rows = client.simple_query(statement).await.map_err(|e| format!("{e:?}"))?;
                    let first = rows.iter().find_map(|message| match message {
                        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
                        _ => None,
                    });
                    Ok(first.unwrap_or_default())
                })
            });
            work.join().unwrap()
        })
    }

    /// Executes a statement and gives the first value of its first row.
    pub fn execute(&self, database: &str, statement: &str) -> String {
        self.try_execute(database, statement).unwrap()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.end("-INT");
    }
}
