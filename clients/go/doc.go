// Package farsock opens sockets on far machines, as the types that package net has for those of this one.
//
// An agent (farsock agent) runs on each host of a lab. [Open] finds one, and its [Host] dials and listens there:
//
//	host, err := farsock.Open("lab-a")
//	conn, err := host.Dial("tcp", "10.0.0.2:80")       // from lab-a; a net.Conn
//	listener, err := host.Listen("tcp", ":8080")       // on lab-a; a net.Listener
//	packets, err := host.ListenPacket("udp", ":3000")  // on lab-a; a net.PacketConn
//
// Whatever takes these works from there: an http.Transport by its DialContext, http.Serve by a listener. Addresses, host names and service
// names are those of the far host, deadlines are kept, and errors are those of its kernel: a *net.OpError around a *os.SyscallError around a
// syscall.Errno. What the agent itself refuses, and that it cannot be reached, is an [AgentError].
//
// Bytes are read from the far kernel only as far as this program reads them, so that a slow reader closes the window of the far peer.
//
// Beneath it the whole API of the agent is there: [Host.API], in the messages of package farsockpb.
package farsock
