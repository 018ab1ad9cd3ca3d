package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Requests become due at fixed times, whatever the answers do. A request that finds no connection free waits its turn, and
// its wait counts.
type pacer struct {
	mu        sync.Mutex
	idle      []*clientConn
	waiting   []due
	latencies []time.Duration
	inFlight  int
	errors    int
	first     string
	done      chan struct{}
	closing   bool
}

type due struct {
	at     time.Time
	number int
}

type clientConn struct {
	conn    net.Conn
	reader  *bufio.Reader
	request []byte
	due     time.Time
	sent    chan struct{}
}

func constantRate(o options) {
	runtime.GOMAXPROCS(3) // One of them is the pacer's own thread.
	p := &pacer{done: make(chan struct{})}
	p.latencies = make([]time.Duration, 0, int(o.rate*o.length.Seconds())+1024)
	for range o.connections {
		conn, err := net.Dial("tcp", o.address)
		if err != nil {
			fail(err.Error())
		}
		c := &clientConn{conn: conn, reader: bufio.NewReaderSize(conn, 64<<10), sent: make(chan struct{}, 1)}
		p.idle = append(p.idle, c)
		go p.read(c)
	}
	started := time.Now()
	total := int(o.rate * o.length.Seconds())
	pace(started, o.rate, total, p.send)
	p.mu.Lock()
	p.closing = true
	if p.inFlight == 0 && len(p.waiting) == 0 {
		close(p.done)
	}
	p.mu.Unlock()
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := result{Requests: len(p.latencies), Errors: p.errors + p.inFlight + len(p.waiting), FirstError: p.first}
	r.Seconds = time.Since(started).Seconds()
	r.latencies(p.latencies)
	say(r)
}

// Calls send for each of total moments, on a thread of its own that sleeps in the kernel: the runtime's timers are a
// millisecond coarse. A late wake-up sends what became due meanwhile at once.
func pace(started time.Time, rate float64, total int, send func(due)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const setTimerSlack = 29
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0)
	for n := range total {
		at := started.Add(time.Duration(float64(n) / rate * 1e9))
		if wait := time.Until(at); wait > 0 {
			t := syscall.NsecToTimespec(wait.Nanoseconds())
			_ = syscall.Nanosleep(&t, nil)
		}
		send(due{at, n})
	}
}

func (p *pacer) send(d due) {
	p.mu.Lock()
	if len(p.idle) == 0 {
		p.waiting = append(p.waiting, d)
		p.mu.Unlock()
		return
	}
	c := p.idle[0]
	p.idle = p.idle[1:]
	p.inFlight++
	p.mu.Unlock()
	p.write(c, d)
}

func (p *pacer) write(c *clientConn, d due) {
	c.due = d.at
	c.request = appendRequest(c.request[:0], d.number)
	c.sent <- struct{}{}
	if _, err := c.conn.Write(c.request); err != nil {
		_ = c.conn.Close() // Its reader sees it.
	}
}

// Every request differs in its path, query and one header.
func appendRequest(b []byte, n int) []byte {
	b = append(b, "GET /item/"...)
	b = strconv.AppendInt(b, int64(n%5003), 10)
	b = append(b, "?q="...)
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, " HTTP/1.1\r\nHost: app\r\nX-Visitor: visitor-"...)
	b = strconv.AppendInt(b, int64(n*7919%100003), 10)
	return append(b, "\r\n\r\n"...)
}

func (p *pacer) read(c *clientConn) {
	for range c.sent {
		err := readAnswer(c.reader)
		now := time.Now()
		p.mu.Lock()
		if err != nil {
			p.errors++
			if p.first == "" {
				p.first = err.Error()
			}
		} else {
			p.latencies = append(p.latencies, now.Sub(c.due))
		}
		if err != nil {
			p.inFlight--
			p.finish()
			p.mu.Unlock()
			return // The connection is of no use any more.
		}
		if len(p.waiting) > 0 {
			next := p.waiting[0]
			p.waiting = p.waiting[1:]
			p.mu.Unlock()
			p.write(c, next)
			continue
		}
		p.inFlight--
		p.idle = append(p.idle, c)
		p.finish()
		p.mu.Unlock()
	}
}

func (p *pacer) finish() {
	if p.closing && p.inFlight == 0 {
		p.closing = false
		close(p.done)
	}
}

// One answer with a Content-Length; anything but 200 is an error.
func readAnswer(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(line) < 12 || !bytes.Equal(line[8:12], []byte(" 200")) {
		return fmt.Errorf("answered %q", bytes.TrimSpace(line))
	}
	length := -1
	for {
		line, err = r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		const name = "content-length:"
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("an answer without Content-Length")
	}
	_, err = io.CopyN(io.Discard, r, int64(length))
	return err
}
