//! The address of a stream: an IP address with a port, or a Unix socket.
//!
//! Owns: [`Addr`] and [`UnixAddr`], and their text; [`Credentials`]. Must not know: sockets.

use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// The address of one end of a stream.
///
/// ```
/// use reactor::Addr;
///
/// assert_eq!(Addr::from(([127, 0, 0, 1], 7007)).to_string(), "127.0.0.1:7007");
/// assert_eq!(Addr::unix("/run/echo.sock").to_string(), "unix:/run/echo.sock");
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Addr {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A Unix socket (unix(7)).
    Unix(UnixAddr),
}

/// The process at the other end of a Unix socket, as the kernel knows it (`SO_PEERCRED`, unix(7)). A process cannot forge
/// its credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Credentials {
    /// The process that has dialed, or that has called listen(2). `None` if the process is in a PID namespace that cannot be
    /// seen from here (pid_namespaces(7)).
    pub pid: Option<u32>,
    /// The effective user at that moment.
    pub uid: u32,
    /// The effective group at that moment.
    pub gid: u32,
}

/// The address of a Unix socket (unix(7)): a path, an abstract name, or no name. A client has no name unless its socket
/// is bound.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UnixAddr(Name);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Name {
    Unnamed,
    Path(Arc<Path>),
    /// The name without the NUL in front of it. Linux only.
    Abstract(Arc<[u8]>),
}

impl Addr {
    /// Returns the address of the Unix socket at `path`.
    pub fn unix(path: impl AsRef<Path>) -> Self {
        Addr::Unix(UnixAddr::new(path))
    }

    /// Returns the IP address and the port; `None` for a Unix socket.
    pub fn as_socket(&self) -> Option<SocketAddr> {
        match self {
            Addr::Ip(addr) => Some(*addr),
            Addr::Unix(_) => None,
        }
    }

    /// Returns the path of a Unix socket; `None` for every other address.
    pub fn as_pathname(&self) -> Option<&Path> {
        match self {
            Addr::Unix(addr) => addr.as_pathname(),
            Addr::Ip(_) => None,
        }
    }

    /// Returns true for the address of a Unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self, Addr::Unix(_))
    }

    /// Returns true for a wildcard address (`0.0.0.0`, `[::]`).
    pub(crate) fn is_unspecified(&self) -> bool {
        matches!(self, Addr::Ip(addr) if addr.ip().is_unspecified())
    }

    /// Returns the address of a socket of the same family that has none yet.
    pub(crate) fn unspecified(&self) -> Self {
        match self {
            Addr::Ip(SocketAddr::V4(_)) => Addr::from(([0, 0, 0, 0], 0)),
            Addr::Ip(SocketAddr::V6(_)) => Addr::from((IpAddr::from([0u16; 8]), 0)),
            Addr::Unix(_) => Addr::Unix(UnixAddr(Name::Unnamed)),
        }
    }

    /// Returns an IPv4-mapped address as the IPv4 address, and any other address as it is, with its zone.
    pub(crate) fn to_canonical(&self) -> Self {
        match self {
            Addr::Ip(addr) => Addr::Ip(canonical(*addr)),
            Addr::Unix(_) => self.clone(),
        }
    }
}

/// Returns an IPv4-mapped address as the IPv4 address, and any other address as it is, with its zone.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => SocketAddr::new(v6.ip().to_canonical(), v6.port()),
        addr => addr,
    }
}

impl UnixAddr {
    /// The bytes of the longest path or abstract name: 107 on Linux (`sun_path` in unix(7)).
    pub const MAX_LEN: usize = size_of::<libc::sockaddr_un>() - mem::offset_of!(libc::sockaddr_un, sun_path) - 1;

    /// Returns the address of the socket at `path`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        UnixAddr(Name::Path(path.as_ref().into()))
    }

    /// Returns the address of the socket with the abstract name `name`. Linux only.
    pub fn new_abstract(name: &[u8]) -> Self {
        UnixAddr(Name::Abstract(name.into()))
    }

    /// Returns the address of a socket without a name.
    pub fn unnamed() -> Self {
        UnixAddr(Name::Unnamed)
    }

    /// Checks that the kernel can take the name.
    ///
    /// # Errors
    /// The reason why not.
    pub fn check(&self) -> Result<(), &'static str> {
        match &self.0 {
            Name::Path(path) if path.as_os_str().is_empty() => Err(EMPTY),
            Name::Abstract(name) if name.is_empty() => Err(EMPTY),
            Name::Path(path) if path.as_os_str().len() > Self::MAX_LEN => Err(TOO_LONG),
            Name::Path(path) if path.as_os_str().as_bytes().contains(&0) => Err("the path of a Unix socket has a NUL"),
            Name::Abstract(name) if name.len() > Self::MAX_LEN => Err(TOO_LONG),
            Name::Abstract(_) if cfg!(not(any(target_os = "linux", target_os = "android"))) => {
                Err("only Linux has abstract names of Unix sockets")
            }
            Name::Unnamed | Name::Path(_) | Name::Abstract(_) => Ok(()),
        }
    }

    /// Returns the path, if the socket has one.
    pub fn as_pathname(&self) -> Option<&Path> {
        match &self.0 {
            Name::Path(path) => Some(path),
            Name::Unnamed | Name::Abstract(_) => None,
        }
    }

    /// Returns the abstract name, if the socket has one.
    pub fn as_abstract_name(&self) -> Option<&[u8]> {
        match &self.0 {
            Name::Abstract(name) => Some(name),
            Name::Unnamed | Name::Path(_) => None,
        }
    }

    /// Returns true if the socket has no name: the usual client.
    pub fn is_unnamed(&self) -> bool {
        self.0 == Name::Unnamed
    }
}

const EMPTY: &str = "the name of a Unix socket is empty";

/// The text of the error for a longer name than [`UnixAddr::MAX_LEN`].
const TOO_LONG: &str = match UnixAddr::MAX_LEN {
    107 => "the name of a Unix socket has at most 107 bytes",
    103 => "the name of a Unix socket has at most 103 bytes",
    _ => "the name of a Unix socket is too long",
};

impl From<UnixAddr> for Addr {
    fn from(addr: UnixAddr) -> Self {
        Addr::Unix(addr)
    }
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Self {
        Addr::Ip(addr)
    }
}

impl From<SocketAddrV4> for Addr {
    fn from(addr: SocketAddrV4) -> Self {
        Addr::Ip(addr.into())
    }
}

impl From<SocketAddrV6> for Addr {
    fn from(addr: SocketAddrV6) -> Self {
        Addr::Ip(addr.into())
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for Addr {
    fn from((ip, port): (I, u16)) -> Self {
        Addr::Ip((ip, port).into())
    }
}

impl From<net::SocketAddr> for Addr {
    fn from(addr: net::SocketAddr) -> Self {
        if let Some(path) = addr.as_pathname() {
            return Addr::unix(path);
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            #[cfg(target_os = "android")]
            use std::os::android::net::SocketAddrExt;
            #[cfg(target_os = "linux")]
            use std::os::linux::net::SocketAddrExt;
            if let Some(name) = addr.as_abstract_name() {
                return UnixAddr::new_abstract(name).into();
            }
        }
        UnixAddr::unnamed().into()
    }
}

impl FromStr for Addr {
    type Err = ParseAddrError;

    /// Parses the text of an address: `127.0.0.1:7007`, `[::1]:7007`, `unix:/run/echo.sock` or `unix:@name`.
    fn from_str(text: &str) -> Result<Self, ParseAddrError> {
        match text.strip_prefix("unix:") {
            Some(name) => name.parse().map(Addr::Unix),
            None => text.parse().map(Addr::Ip).map_err(|_| ParseAddrError("an address is IP:PORT or unix:PATH")),
        }
    }
}

impl FromStr for UnixAddr {
    type Err = ParseAddrError;

    /// Parses a path, or an abstract name with `@` before it. A path that begins with `@` is written as `./@`.
    fn from_str(text: &str) -> Result<Self, ParseAddrError> {
        let addr = match text.strip_prefix('@') {
            Some(name) => Self::new_abstract(name.as_bytes()),
            None => Self::new(text),
        };
        addr.check().map_err(ParseAddrError)?;
        Ok(addr)
    }
}

/// The text is no [`Addr`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseAddrError(&'static str);

impl fmt::Display for ParseAddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ParseAddrError {}

/// Lets [`TcpStream::connect`](std::net::TcpStream::connect) dial the address of a listener. A Unix socket is an error.
impl ToSocketAddrs for Addr {
    type Iter = std::option::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        match self {
            Addr::Ip(addr) => addr.to_socket_addrs(),
            Addr::Unix(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "the address is that of a Unix socket")),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Addr::Ip(addr) => addr.fmt(f),
            Addr::Unix(addr) => write!(f, "unix:{addr}"),
        }
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for UnixAddr {
    /// Writes the path, or `@` and the abstract name, or nothing. Control characters are escaped: a name must not add a line to a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.0 {
            Name::Unnamed => return Ok(()),
            Name::Path(path) => path.as_os_str(),
            Name::Abstract(name) => {
                f.write_char('@')?;
                OsStr::from_bytes(name)
            }
        };
        for c in name.to_string_lossy().chars() {
            match c.is_control() {
                true => write!(f, "{}", c.escape_default())?,
                false => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_small_and_goes_to_other_threads() {
        fn is_send_and_sync<T: Send + Sync>() {}
        is_send_and_sync::<Addr>();
        assert!(size_of::<Addr>() <= size_of::<SocketAddr>().next_multiple_of(8), "{} bytes", size_of::<Addr>());
    }

    #[test]
    fn the_text_names_the_kind_of_a_unix_socket() {
        let unnamed = net::UnixStream::pair().unwrap().0.local_addr().unwrap();
        assert_eq!(Addr::from(unnamed).to_string(), "unix:");
        let path = net::SocketAddr::from_pathname("/run/x.sock").unwrap();
        assert_eq!(Addr::from(path).to_string(), "unix:/run/x.sock");
        assert_eq!(Addr::from(UnixAddr::new_abstract(b"x\0y")).to_string(), "unix:@x\\u{0}y");
        assert_eq!(Addr::unix("a\nready").to_string(), "unix:a\\nready");
        assert_eq!(format!("{:?}", Addr::from(([127, 0, 0, 1], 9))), "127.0.0.1:9");
    }

    #[test]
    fn a_text_is_parsed_back() {
        for text in ["127.0.0.1:7", "[::1]:7", "unix:/run/x.sock", "unix:x", "unix:./@x", "unix:a:b"] {
            assert_eq!(text.parse::<Addr>().unwrap().to_string(), text);
        }
        let longest = "x".repeat(UnixAddr::MAX_LEN);
        assert!(longest.parse::<UnixAddr>().is_ok() && "/run/x.sock".parse::<Addr>().is_err());
        for text in ["", "@", "a\0b", &format!("{longest}x"), &format!("@{longest}x")] {
            assert!(text.parse::<UnixAddr>().is_err(), "{text:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_name_is_not_a_path() {
        use std::os::linux::net::SocketAddrExt;
        let addr = Addr::from(net::SocketAddr::from_abstract_name(b"x").unwrap());
        assert_eq!(addr, UnixAddr::new_abstract(b"x").into());
        assert_eq!(addr.as_pathname(), None);
        assert_ne!(addr, Addr::unix("@x"));
    }
}
