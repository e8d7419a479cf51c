//! A server as its own process, in a folder with a small model and recordings, and an HTTP client
//! that shows every byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// Enough for any request of these tests on a busy machine; then a test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running server; killed when it goes out of scope.
pub struct Server {
    child: Child,
    pub address: String,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// `serve ARGUMENTS --port 0` in a folder, ready.
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::run(command(folder).args(arguments))
    }

    /// A command that ends up as `serve --port 0`, ready.
    pub fn run(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let Some(Ok(line)) = lines.next() else {
                panic!("the server ended: {}", log.lock().unwrap());
            };
            *log.lock().unwrap() += &format!("{line}\n");
            if let Some((_, address)) = line.split_once("listening on http://") {
                // Who listens on all addresses is asked on the loopback one.
                break address.trim().replace("0.0.0.0", "127.0.0.1");
            }
        };
        let rest = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *rest.lock().unwrap() += &format!("{line}\n");
            }
        });
        let server = Self {
            child,
            address,
            log,
        };
        while server.get("/readyz").status != 200 {
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// [`Server::start`] with its log sent elsewhere; the address comes from standard output.
    pub fn with_log(folder: &Path, arguments: &[&str], log: Stdio) -> Self {
        let mut child = command(folder)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on http://");
        let address = address.unwrap_or_else(|| panic!("{line:?}"));
        let server = Self {
            child,
            address: address.trim_end().to_owned(),
            log: Arc::default(),
        };
        while server.get("/readyz").status != 200 {
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn connect(&self) -> TcpStream {
        connect(&self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, kind: &str, body: &[u8]) -> Answer {
        self.send("POST", path, &[("Content-Type", kind)], body)
    }

    /// One request over a connection of its own.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        send(&self.address, method, path, headers, body)
    }

    /// The number after a metric's name and labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .parse()
            .unwrap()
    }

    /// Waits until the metric has a value; it is read again and again because only the server knows
    /// when.
    pub fn wait_for(&self, name: &str, value: f64) {
        let start = std::time::Instant::now();
        while self.metric(name) != value {
            assert!(start.elapsed() < PATIENCE, "{name} does not become {value}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let kill = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        assert!(kill.unwrap().success());
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `serve --port 0` in a folder, not started yet.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_serve"));
    command
        .args(["--port", "0"])
        .current_dir(folder)
        .env_remove("MAEUM_KEY")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub fn send(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = connect(address);
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(n, _)| *n == "Host") {
        head += &format!("Host: {address}\r\n");
    }
    if method != "GET" && !headers.iter().any(|(n, _)| *n == "Content-Length") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all((head + "\r\n").as_bytes()).unwrap();
    // A server that refuses may do so before it has read everything.
    let _ = stream.write_all(body);
    Answer::read(stream)
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads to the end of the connection.
    pub fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let split = bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .unwrap_or_else(|| {
                panic!("no answer: {:?}", String::from_utf8_lossy(&bytes));
            });
        let head = String::from_utf8(bytes[..split].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|l| l.split_once(": ").unwrap())
            .map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))
            .collect();
        let answer = Self {
            status,
            headers,
            body: bytes[split + 4..].to_vec(),
        };
        let length = answer.header("content-length").map(|l| l.parse().unwrap());
        assert_eq!(length, Some(answer.body.len()), "{answer:?}");
        answer
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, v)| &**v)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?}: {}", self.headers, self.text());
        self
    }

    /// An error in the shape that all errors have.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> String {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let document = answer.json();
        assert_eq!(document.as_object().unwrap().len(), 1, "{document}");
        let error = document["error"].as_object().unwrap();
        assert_eq!(error.len(), 2, "{document}");
        assert_eq!(error["code"], code, "{document}");
        error["message"].as_str().unwrap().to_owned()
    }
}

/// A server in this process with settings of its own; it runs until the process ends.
pub fn in_process(folder: &Path, settings: maeum::server::Settings) -> String {
    use maeum::server::{Shared, listen, router};
    let model = maeum::model::bundle::load(&folder.join("model.safetensors")).unwrap();
    let recognizer = Arc::new(maeum::Recognizer::new(model).unwrap());
    let shared = Shared::new(recognizer, settings).unwrap();
    shared.self_test().unwrap();
    let (sender, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            let never = std::future::pending();
            listen::serve(listener, router(&shared), &shared, never).await;
        });
    });
    address.recv().unwrap().to_string()
}

/// A multipart body of text fields and a file, with its content type.
pub fn multipart(fields: &[(&str, &str)], file: Option<(&str, &[u8])>) -> (String, Vec<u8>) {
    const BOUNDARY: &str = "a-boundary-that-no-recording-holds";
    let mut body = Vec::new();
    let mut part = |head: String, content: &[u8]| {
        body.extend(
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n").bytes(),
        );
        body.extend(content);
        body.extend(b"\r\n");
    };
    for (name, value) in fields {
        part(format!("name=\"{name}\""), value.as_bytes());
    }
    if let Some((name, content)) = file {
        part(format!("name=\"file\"; filename=\"{name}\""), content);
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}

/// The body of a form.
pub fn urlencoded(fields: &[(&str, &str)]) -> Vec<u8> {
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|b| match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(b).to_string(),
                _ => format!("%{b:02X}"),
            })
            .collect()
    };
    let pairs: Vec<String> = fields
        .iter()
        .map(|(n, v)| format!("{}={}", escape(n), escape(v)))
        .collect();
    pairs.join("&").into_bytes()
}
