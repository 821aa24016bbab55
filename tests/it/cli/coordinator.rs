//! A coordinator of a test's own: `bowstring serve` on free ports.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Finished, bowstring, finish};

/// Asks until it is true; a test that waits in vain fails instead of hanging.
#[expect(clippy::disallowed_methods, reason = "a real process is asked in real time")]
pub(crate) fn eventually(mut true_at_last: impl FnMut() -> bool) {
    let start = Instant::now();
    while !true_at_last() {
        assert!(start.elapsed() < Duration::from_secs(20), "still not true");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running `bowstring serve`; killed when dropped.
pub(crate) struct Coordinator {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: Option<ChildStderr>,
    pub(crate) listen: String,
    pub(crate) http: Option<String>,
    pub(crate) unix: Option<String>,
}

impl Coordinator {
    pub(crate) fn start() -> Self {
        Self::start_with(&["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"], &[])
    }

    /// Starts it with these flags and environment, and reads the line that says where it listens.
    pub(crate) fn start_with(flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = bowstring(&[&["serve"], flags].concat());
        command.envs(environment.iter().copied());
        Self::spawn(command)
    }

    /// Starts it by this command, which becomes it: it has the same id.
    pub(crate) fn spawn(command: Command) -> Self {
        Self::try_spawn(command).unwrap_or_else(|refusal| panic!("serve said {refusal:?}"))
    }

    /// What a start ended with that is to be refused; one that is not is ended.
    pub(crate) fn refused(command: Command) -> Finished {
        Self::try_spawn(command).map(|started| started.listen.clone()).expect_err("it is to be refused")
    }

    fn try_spawn(mut command: Command) -> Result<Self, Finished> {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (mut stdout, mut stderr) = (BufReader::new(child.stdout.take().unwrap()), child.stderr.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Ok(said) = serde_json::from_str::<serde_json::Value>(&line) else {
            let mut log = String::new();
            stderr.read_to_string(&mut log).unwrap();
            return Err(Finished { code: wait(&mut child, Duration::from_secs(10)), stdout: line, stderr: log });
        };
        let text = |key: &str| said[key].as_str().map(String::from);
        Ok(Self { child, stdout, stderr: Some(stderr), listen: text("listen").unwrap(), http: text("http"), unix: text("unix") })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self) -> String {
        format!("grpc://{}", self.listen)
    }

    /// Runs a client command against it.
    pub(crate) fn run(&self, args: &[&str]) -> Finished {
        self.run_with(args, None)
    }

    /// As [`Coordinator::run`], with something on stdin.
    pub(crate) fn run_with(&self, args: &[&str], stdin: Option<&[u8]>) -> Finished {
        finish(self.command(args), stdin)
    }

    /// A client command against it, to be started by the test.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = bowstring(args);
        command.env("BOWSTRING_URL", self.url());
        command
    }

    /// The value of a metric, named with its labels as it is shown.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        self.http.as_ref()?;
        self.get("/metrics").lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// The answer to a request on its HTTP port, head included.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut connection = TcpStream::connect(self.http.as_deref().unwrap()).unwrap();
        connection.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Sends a signal to it.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Waits for its end; gives the exit code, what else it printed, and its log.
    pub(crate) fn wait(mut self, at_most: Duration) -> Finished {
        let code = wait(&mut self.child, at_most);
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        Finished { code, stdout, stderr }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let (true, Some(mut stderr)) = (std::thread::panicking(), self.stderr.take()) {
            let mut log = String::new();
            let _ = stderr.read_to_string(&mut log);
            println!("the coordinator at {} has logged:\n{log}", self.listen);
        }
    }
}

/// Sends a signal to a process that the test started.
pub(crate) fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Waits for the end of a process, and fails if that takes longer than `at_most`.
#[expect(clippy::disallowed_methods, reason = "a real process ends in real time")]
pub(crate) fn wait(child: &mut Child, at_most: Duration) -> i32 {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        assert!(started.elapsed() < at_most, "still running after {at_most:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
