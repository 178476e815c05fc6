// example SOCKET: refuses /admin, marks what it has seen, masks secrets.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"os"
	"strings"
)

type object = map[string]any

// What we read of an event; its other fields are skipped.
type event struct {
	ID       string `json:"correlation_id"`
	Metadata struct {
		ID string `json:"correlation_id"`
	} `json:"metadata"`
	URI   string `json:"uri"`
	Data  []byte `json:"data"` // base64 in JSON, as encoding/json has it
	Index int    `json:"chunk_index"`
}

func setHeader(name, value string) []object {
	return []object{{"set": object{"name": name, "value": value}}}
}

// decide fills in the reply; it allows when nothing is done.
func decide(kind byte, ev *event, reply object) {
	switch kind {
	case 0x10: // request head
		if strings.HasPrefix(ev.URI, "/admin") {
			reply["decision"] = object{"block": object{
				"status": 403, "body": "denied\n"}}
			return
		}
		reply["request_headers"] = setHeader("X-Checked-By", "example")
		reply["response_headers"] = setHeader("X-Checked-By", "example")
	case 0x11: // a chunk of the request's body
		if bytes.Contains(ev.Data, []byte("secret")) {
			masked := bytes.ReplaceAll(ev.Data, []byte("secret"),
				[]byte("******"))
			reply["request_body_mutation"] = object{
				"data": masked, "chunk_index": ev.Index}
		}
	}
}

// answer is the reply to an event. What cannot be read is an error, never an
// allow.
func answer(kind byte, payload []byte) (object, error) {
	var ev event
	if err := json.Unmarshal(payload, &ev); err != nil {
		return nil, err
	}
	if kind == 0x10 {
		ev.ID = ev.Metadata.ID
	}
	if ev.ID == "" || kind == 0x10 && ev.URI == "" {
		return nil, errors.New("an event that lacks a field")
	}
	reply := object{"version": 2, "decision": "allow",
		"audit": object{"custom": object{"correlation_id": ev.ID}}}
	decide(kind, &ev, reply)
	return reply, nil
}

func readFrame(r io.Reader) (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return
	}
	n := binary.BigEndian.Uint32(head[:4]) // counts the type, too
	if n < 1 || n > 16<<20 {
		return 0, nil, errors.New("a frame of illegal length")
	}
	payload = make([]byte, n-1)
	_, err = io.ReadFull(r, payload)
	return head[4], payload, err
}

func writeFrame(w io.Writer, kind byte, payload []byte) error {
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(payload)+1))
	_, err := w.Write(append(append(frame, kind), payload...))
	return err
}

func writeJSON(w io.Writer, kind byte, value object) error {
	payload, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return writeFrame(w, kind, payload)
}

func onFrame(w io.Writer, kind byte, payload []byte) error {
	switch kind {
	case 0x01: // handshake
		return writeJSON(w, 0x02, object{"protocol_version": 2,
			"success": true, "error": nil, "encoding": "json",
			"capabilities": object{"agent_id": "example",
				"name": "example", "version": "1.0",
				"supported_events": []int{1, 2}}})
	case 0x41: // ping: the same bytes back
		return writeFrame(w, 0x42, payload)
	case 0x40: // cancel: nothing to stop, and no answer
		return nil
	case 0x10, 0x11, 0x12, 0x13, 0x14, 0x17: // each is answered, in order
		reply, err := answer(kind, payload)
		if err != nil {
			return err
		}
		return writeJSON(w, 0x20, reply)
	}
	return errors.New("a frame of unknown type")
}

// serve answers the events of one link one after the other. An error hangs up;
// the proxy's on_failure decides what that means.
func serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		kind, payload, err := readFrame(r)
		if err == nil {
			err = onFrame(conn, kind, payload)
		}
		if err != nil {
			if err != io.EOF {
				log.Print(err)
			}
			return
		}
	}
}

func main() {
	os.Remove(os.Args[1])
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(conn)
	}
}
