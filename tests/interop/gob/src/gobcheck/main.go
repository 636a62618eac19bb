// gobcheck talks gob with the tests, by Go's own encoding/gob.
//
//	gobcheck read DIR         for every DIR/*.index: decode DIR/*.gob, write what was in it to DIR/*.seen
//	gobcheck write DIR SEED STREAMS VALUES      write such streams of random values, with what is in them to DIR/*.said
//
// An index has a line per value: the place of its type in the list of types. Values are written down as one line of text each, without
// the fields that are tagged `other:"-"`, which the other side doesn't know.
package main

import (
	"bufio"
	"encoding/gob"
	"fmt"
	"math"
	"math/big"
	"math/rand"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"bootstrap"
	"family"
	"iris"
	"pastry"
	"proto"
	"scribe"
	"session"
)

var (
	bigInt   = reflect.TypeOf(new(big.Int))
	moment   = reflect.TypeOf(time.Time{})
	types    []reflect.Type
	contents []reflect.Type // what an interface may hold
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	lists := [][]interface{}{proto.Types(), session.Types(), pastry.Types(), scribe.Types(), iris.Types(), bootstrap.Types(), family.Types()}
	for _, list := range lists {
		for _, value := range list {
			types = append(types, reflect.TypeOf(value).Elem())
		}
	}
	for _, value := range family.Registered() {
		contents = append(contents, reflect.TypeOf(value))
	}
	for _, list := range [][]interface{}{pastry.Types()[:2], scribe.Types()[:1], iris.Types()} {
		for _, value := range list {
			contents = append(contents, reflect.TypeOf(value))
		}
	}
	if os.Args[1] == "read" {
		indices, err := filepath.Glob(filepath.Join(os.Args[2], "*.index"))
		must(err)
		for _, index := range indices {
			read(strings.TrimSuffix(index, ".index"))
		}
		return
	}
	var numbers []int
	for _, argument := range os.Args[3:] {
		number, err := strconv.Atoi(argument)
		must(err)
		numbers = append(numbers, number)
	}
	rng := rand.New(rand.NewSource(int64(numbers[0])))
	for stream := 0; stream < numbers[1]; stream++ {
		write(filepath.Join(os.Args[2], fmt.Sprintf("go%d", stream)), rng, numbers[2])
	}
}

func create(name string) (*bufio.Writer, func()) {
	file, err := os.Create(name)
	must(err)
	writer := bufio.NewWriter(file)
	return writer, func() {
		must(writer.Flush())
		must(file.Close())
	}
}

func read(stem string) {
	index, err := os.Open(stem + ".index")
	must(err)
	defer index.Close()
	stream, err := os.Open(stem + ".gob")
	must(err)
	defer stream.Close()
	seen, done := create(stem + ".seen")
	decoder := gob.NewDecoder(bufio.NewReader(stream))
	lines := bufio.NewScanner(index)
	for at := 0; lines.Scan(); at++ {
		place, err := strconv.Atoi(lines.Text())
		must(err)
		value := reflect.New(types[place])
		if err := decoder.DecodeValue(value); err != nil {
			must(fmt.Errorf("%s, value %d, %v: %v", stem, at, types[place], err))
		}
		fmt.Fprintln(seen, spell(value.Elem()))
	}
	done()
}

func write(stem string, rng *rand.Rand, count int) {
	index, indexDone := create(stem + ".index")
	stream, streamDone := create(stem + ".gob")
	said, saidDone := create(stem + ".said")
	encoder := gob.NewEncoder(stream)
	for i := 0; i < count; i++ {
		place := rng.Intn(len(types))
		value := reflect.New(types[place])
		fill(rng, value.Elem(), 4, true)
		if err := encoder.EncodeValue(value.Elem()); err != nil {
			must(fmt.Errorf("%v: %v", types[place], err))
		}
		fmt.Fprintln(index, place)
		fmt.Fprintln(said, spell(value.Elem()))
	}
	indexDone()
	streamDone()
	saidDone()
}

func spell(v reflect.Value) string {
	if v.Type() == bigInt {
		if v.IsNil() {
			return "nil"
		}
		return v.Interface().(*big.Int).String()
	}
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return "true"
		}
		return "false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10)
	case reflect.Float32, reflect.Float64:
		if v.Float() == 0 {
			return "0x0"
		}
		return fmt.Sprintf("0x%x", math.Float64bits(v.Float()))
	case reflect.String:
		return fmt.Sprintf("'%x'", v.String())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return fmt.Sprintf("'%x'", v.Bytes())
		}
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = spell(v.Index(i))
		}
		return "[" + strings.Join(parts, " ") + "]"
	case reflect.Map:
		if v.IsNil() {
			return "nil"
		}
		parts := make([]string, 0, v.Len())
		for _, key := range v.MapKeys() {
			parts = append(parts, spell(key)+":"+spell(v.MapIndex(key)))
		}
		sort.Strings(parts)
		return "{" + strings.Join(parts, " ") + "}"
	case reflect.Struct:
		var parts []string
		for i := 0; i < v.NumField(); i++ {
			if v.Type().Field(i).Tag.Get("other") != "-" {
				parts = append(parts, spell(v.Field(i)))
			}
		}
		return "(" + strings.Join(parts, " ") + ")"
	case reflect.Ptr:
		if v.IsNil() {
			return "nil"
		}
		return spell(v.Elem())
	case reflect.Interface:
		if v.IsNil() {
			return "nil"
		}
		return v.Elem().Type().String() + spell(v.Elem())
	}
	panic(v.Type().String())
}

func number(rng *rand.Rand, bits int) uint64 {
	return rng.Uint64() >> uint(64-bits) >> uint(rng.Intn(bits))
}

func text(rng *rand.Rand) []byte {
	size := rng.Intn(8)
	if rng.Intn(10) == 0 {
		size = rng.Intn(400)
	}
	data := make([]byte, size)
	rng.Read(data)
	return data
}

// fill makes a random value. depth bounds what is inside of what; needed is set where nil can't be sent, or wouldn't come back as nil.
func fill(rng *rand.Rand, v reflect.Value, depth int, needed bool) {
	if !needed && rng.Intn(4) == 0 {
		return // zero
	}
	switch v.Type() {
	case bigInt:
		magnitude := new(big.Int).SetBytes(text(rng))
		if rng.Intn(3) == 0 {
			magnitude.Neg(magnitude)
		}
		v.Set(reflect.ValueOf(magnitude))
		return
	case moment:
		v.Set(reflect.ValueOf(time.Unix(rng.Int63n(1<<33), rng.Int63n(1e9)).UTC()))
		return
	}
	count := 0
	if depth > 0 {
		count = rng.Intn(4)
		if rng.Intn(20) == 0 {
			count = rng.Intn(150) / (5 - depth)
		}
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rng.Intn(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		value := int64(number(rng, v.Type().Bits()-1))
		if rng.Intn(2) == 0 {
			value = ^value
		}
		v.SetInt(value)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(number(rng, v.Type().Bits()))
	case reflect.Float32:
		v.SetFloat(float64(float32(rng.NormFloat64())))
	case reflect.Float64:
		v.SetFloat([]float64{rng.NormFloat64(), float64(rng.Intn(100)), math.Inf(1), math.Inf(-1), math.MaxFloat64, 5e-324}[rng.Intn(6)])
	case reflect.Complex128:
		v.SetComplex(complex(rng.NormFloat64(), float64(rng.Intn(3))))
	case reflect.String:
		v.SetString(string(text(rng)))
	case reflect.Array:
		for i := 0; i < v.Len(); i++ {
			fill(rng, v.Index(i), depth-1, true)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(text(rng))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), count, count))
		for i := 0; i < count; i++ {
			fill(rng, v.Index(i), depth-1, true)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for i := 0; i < count; i++ {
			key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(rng, key, depth-1, true)
			fill(rng, elem, depth-1, true)
			v.SetMapIndex(key, elem)
		}
	case reflect.Struct:
		for i := 0; i < v.NumField(); i++ {
			fill(rng, v.Field(i), depth-1, false)
		}
	case reflect.Ptr:
		if depth <= 0 && !needed {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(rng, v.Elem(), depth-1, true)
	case reflect.Interface:
		if depth <= 0 {
			return
		}
		content := reflect.New(contents[rng.Intn(len(contents))].Elem())
		fill(rng, content.Elem(), depth-1, true)
		v.Set(content)
	default:
		panic(v.Type().String())
	}
}
