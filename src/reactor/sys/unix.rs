//! The system calls that make Unix sockets (unix(7)), and the file of a listening one.
//!
//! Owns: [`SocketFile`], the set-up of a listener and of a dialing socket. Must not know: their use.
//!
//! Invariants:
//! 1. A listener replaces a file only if it is a socket and the kernel refuses connections to it (ECONNREFUSED): the
//!    server that made the file is gone.
//! 2. [`SocketFile`] removes the file that it was made for, and no other that has its path by now.
//! 3. The file never has a permission that the mode of the options lacks.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use socket2::{Domain, SockAddr, Socket, Type};

use super::open::{apply, backlog};
use super::stream::{ListenSocket, StreamSocket};
use crate::addr::UnixAddr;
use crate::service::ListenOptions;

/// The longest wait for the lock of a directory: a second, in pauses of 5 ms. Another server that starts holds the lock for
/// microseconds, unless the machine withholds the processor.
const LOCK_PAUSES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The file of a listening Unix socket. Dropping the value removes the file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: a file that has replaced ours has another inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|present| present == self.identity) {
            // A file that stays is stale, and the next listener replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Returns a new listener.
///
/// # Errors
/// Those of socket(2), setsockopt(2), bind(2) and listen(2): EADDRINUSE for a path at which a server answers, EACCES,
/// ENOENT among them. `AlreadyExists` for a path at which there is a file that is no socket.
pub fn listen(addr: &UnixAddr, options: &ListenOptions) -> io::Result<ListenSocket> {
    let sockaddr = to_sockaddr(addr)?;
    let socket = socket()?;
    // The kernel refuses `SO_REUSEPORT` for a Unix socket (EOPNOTSUPP), which has one listener in any case.
    apply(&socket, &ListenOptions { reuse_port: false, ..options.clone() })?;
    let file = match addr.as_pathname() {
        Some(path) => {
            // Between bind(2) and listen(2) the kernel refuses connections. Without the lock, another server that starts
            // now would take our file for a stale one.
            let _lock = lock_directory(path);
            let file = bind(&socket, &sockaddr, path, options.unix_mode)?;
            socket.listen(backlog(options))?;
            Some(file)
        }
        None => {
            socket.bind(&sockaddr)?;
            socket.listen(backlog(options))?;
            None
        }
    };
    Ok(ListenSocket::unix(UnixListener::from(OwnedFd::from(socket)), file))
}

/// Binds `socket` to `path`, in place of a stale file.
fn bind(socket: &Socket, sockaddr: &SockAddr, path: &Path, mode: Option<u32>) -> io::Result<SocketFile> {
    let mode = mode.map(Permissions::from_mode);
    if let Some(mode) = &mode {
        limit_mode(socket, mode)?;
    }
    match socket.bind(sockaddr) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path, sockaddr)?;
            socket.bind(sockaddr)?;
        }
        bound => bound?,
    }
    let file = SocketFile::new(path)?;
    if let Some(mode) = mode {
        // umask(2) may have removed permissions that the mode has.
        fs::set_permissions(path, mode)?;
    }
    Ok(file)
}

/// Limits the permissions of the file that bind(2) will make. Linux takes them from the inode of the socket, without those
/// in umask(2).
fn limit_mode(socket: &Socket, mode: &Permissions) -> io::Result<()> {
    if cfg!(not(any(target_os = "linux", target_os = "android"))) {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no mode of a socket before bind(2)"));
    }
    File::from(OwnedFd::from(socket.try_clone()?)).set_permissions(mode.clone())
}

/// Removes the file at `path` if it is a socket without a server.
fn remove_stale(path: &Path, sockaddr: &SockAddr) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket has this path")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match socket()?.connect(sockaddr) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A server answers, its backlog is full (EAGAIN), or the answer is unknown (EACCES).
        _ => Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
    }
}

/// Locks the directory of `path` against other servers that start there (flock(2)). The lock ends with the returned file.
/// Returns `None` if the directory cannot be read or another process keeps the lock: then there is no lock.
fn lock_directory(path: &Path) -> Option<File> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(parent.unwrap_or(Path::new("."))).ok()?;
    for _ in 0..LOCK_PAUSES {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(directory),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => thread::sleep(LOCK_PAUSE),
            Err(_) => return None,
        }
    }
    None
}

/// Returns a stream that is connected to `addr`. The call succeeds or fails at once. EAGAIN, for a full backlog, is an error
/// here, because no event announces when the backlog has room.
///
/// # Errors
/// Those of socket(2) and connect(2): ENOENT, ECONNREFUSED, EACCES, EAGAIN among them.
pub fn dial(addr: &UnixAddr) -> io::Result<StreamSocket> {
    let socket = socket()?;
    socket.connect(&to_sockaddr(addr)?)?;
    Ok(StreamSocket::new(socket))
}

fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Returns an address as the kernel takes it.
fn to_sockaddr(addr: &UnixAddr) -> io::Result<SockAddr> {
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, text);
    addr.check().map_err(invalid)?;
    match (addr.as_pathname(), addr.as_abstract_name()) {
        (Some(path), _) => SockAddr::unix(path),
        // socket2 takes a path that begins with NUL for an abstract name (unix(7)).
        (None, Some(name)) => SockAddr::unix(OsStr::from_bytes(&[b"\0", name].concat())),
        (None, None) => Err(invalid("the Unix socket has no name")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;
    use crate::addr::Addr;

    /// A directory of its own, which ends with the test.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("reactor-unix-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        /// Returns a path in the directory, as the address of a socket.
        fn addr(&self, name: &str) -> (PathBuf, UnixAddr) {
            let path = self.0.join(name);
            (path.clone(), UnixAddr::new(path))
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn listen(addr: &UnixAddr) -> io::Result<ListenSocket> {
        super::listen(addr, &ListenOptions::default())
    }

    #[test]
    fn a_listener_replaces_a_stale_file_and_removes_its_own() {
        let directory = Directory::new("stale");
        let (path, addr) = directory.addr("x.sock");
        drop(UnixListener::bind(&path).unwrap());
        let listener = listen(&addr).unwrap();
        assert_eq!(listener.local_addr().unwrap(), Addr::from(addr));
        UnixStream::connect(&path).unwrap();
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn of_servers_that_start_together_one_listens() {
        let directory = Directory::new("together");
        let (path, addr) = directory.addr("x.sock");
        for _ in 0..200 {
            drop(UnixListener::bind(&path).unwrap());
            let barrier = std::sync::Barrier::new(4);
            let start = || {
                barrier.wait();
                listen(&addr).ok()
            };
            let listeners: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(listeners.len(), 1);
            UnixStream::connect(&path).unwrap();
        }
    }

    #[test]
    fn a_file_of_a_live_server_stays() {
        let directory = Directory::new("live");
        let (path, addr) = directory.addr("x.sock");
        let _live = UnixListener::bind(&path).unwrap();
        assert_eq!(listen(&addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
        let (path, addr) = directory.addr("datagrams.sock");
        let _live = UnixDatagram::bind(&path).unwrap();
        assert_eq!(listen(&addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let directory = Directory::new("file");
        let (path, addr) = directory.addr("x");
        fs::write(&path, "text").unwrap();
        assert_eq!(listen(&addr).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let (link, addr) = directory.addr("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert_eq!(listen(&addr).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"text");
    }

    #[test]
    fn a_file_that_has_replaced_the_own_file_stays() {
        let directory = Directory::new("replaced");
        let (path, addr) = directory.addr("x.sock");
        let first = listen(&addr).unwrap();
        // The other file exists before the first is gone, so it has another inode.
        let (other, _) = directory.addr("other.sock");
        let _second = UnixListener::bind(&other).unwrap();
        fs::rename(&other, &path).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn the_mode_is_exact_from_the_first_moment_on() {
        let directory = Directory::new("mode");
        for mode in [0o600, 0o660, 0o666, 0o000] {
            let (path, addr) = directory.addr(&format!("{mode:o}.sock"));
            let socket = socket().unwrap();
            limit_mode(&socket, &Permissions::from_mode(mode)).unwrap();
            socket.bind(&to_sockaddr(&addr).unwrap()).unwrap();
            let permissions = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(permissions(&path) & !mode, 0, "{mode:o} at bind(2)");
            let options = ListenOptions::default().with_unix_mode(mode);
            let _listener = super::listen(&addr, &options).unwrap();
            assert_eq!(permissions(&path), mode);
        }
    }

    #[test]
    fn a_name_that_the_kernel_cannot_take_is_an_error() {
        let (long, longest) = ("x".repeat(UnixAddr::MAX_LEN + 1), "x".repeat(UnixAddr::MAX_LEN));
        for addr in [UnixAddr::new(""), UnixAddr::new("a\0b"), UnixAddr::new(&long)] {
            assert_eq!(listen(&addr).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{addr}");
            assert_eq!(dial(&addr).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{addr}");
        }
        assert_eq!(dial(&UnixAddr::new(longest)).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn an_abstract_name_needs_no_file() {
        let addr = UnixAddr::new_abstract(format!("reactor-{}", std::process::id()).as_bytes());
        let listener = listen(&addr).unwrap();
        assert_eq!(dial(&addr).unwrap().peer_addr().unwrap(), Addr::from(addr.clone()));
        assert_eq!(listen(&addr).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert_eq!(dial(&addr).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
