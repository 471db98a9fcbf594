//! The parameters of a listener and of a datagram socket.
//!
//! Owns: [`ListenOptions`], and the requests of a callback: [`Listen`], [`Bind`]. Must not know: sockets.

use std::net::SocketAddr;

use crate::addr::Addr;
use crate::limits::Policy;

/// The options of a listening or datagram socket.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenOptions {
    /// Connections that the kernel establishes before accept(2) takes them: `backlog` + 1 on Linux (listen(2)). The
    /// bound of the kernel, `net.core.somaxconn`, applies as well.
    pub backlog: u32,
    /// Other sockets may bind the same address, and the kernel spreads the connections over them (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Bytes of the kernel's send buffer (`SO_SNDBUF`); accepted connections inherit it.
    pub send_buffer: Option<usize>,
    /// Bytes of the kernel's receive buffer (`SO_RCVBUF`); accepted connections inherit it.
    pub recv_buffer: Option<usize>,
    /// The permissions of the file of a Unix socket, such as `0o660`. The permission to write to the file is the permission to connect. `None` leaves
    /// them to umask(2). Linux only.
    pub unix_mode: Option<u32>,
}

impl Default for ListenOptions {
    /// Returns the backlog of Go's net package on a current Linux, and the buffer sizes of the kernel.
    fn default() -> Self {
        Self { backlog: 4096, reuse_port: false, send_buffer: None, recv_buffer: None, unix_mode: None }
    }
}

impl ListenOptions {
    /// Sets the backlog, in connections.
    #[must_use]
    pub fn with_backlog(self, backlog: u32) -> Self {
        Self { backlog, ..self }
    }

    /// Lets other sockets bind the same address (`SO_REUSEPORT`). Without effect on a Unix socket.
    #[must_use]
    pub fn with_reuse_port(self, reuse_port: bool) -> Self {
        Self { reuse_port, ..self }
    }

    /// Sets the permissions of the file of a Unix socket.
    #[must_use]
    pub fn with_unix_mode(self, mode: u32) -> Self {
        Self { unix_mode: Some(mode), ..self }
    }
}

/// A listener that a callback has requested.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address.
    pub addr: Addr,
    /// The options of the socket.
    pub options: ListenOptions,
    /// The bounds and timeouts of the connections.
    pub policy: Policy,
}

/// A datagram socket that a callback has requested.
#[derive(Clone, Debug)]
pub struct Bind {
    /// The local address.
    pub addr: SocketAddr,
    /// The options of the socket.
    pub options: ListenOptions,
}
