const net = require('@farsock/client').host('lab-a').net

// 그 다음 클라이언트가 어느 주소로 접속할 지 알아야 함! 그 주소가 포트와 아이피!
// port : 3000, ip : 127.0.0.1

// net.connect() -> 이 코드만 입력하면 연결을 하기 위한 과정(3-way handshaking)이 시작됨! 괄호안에 주소 넣으면 됨
const config = {port:3000, host:"127.0.0.1"}
const socket = net.connect(config) // connect를 쓰면 3번 왔다갔다 하는 과정이 끝남! = 즉 연결됨!

socket.on("connect", ()=>{
    console.log("server로부터 온 응답. client는 연결됨")

    socket.write("aaa")
    socket.write("bbb")
})
