const net = require('@farsock/client').host('lab-a').net

// 포트랑 호스트(인터넷이 되는 컴퓨터)를 선언해줌
const port = process.env.SERVER_PORT || 3000
const host = process.env.SERVER_HOST || "127.0.0.1"

const server = net.createServer((client)=>{
    console.log(client)
})

server.on('connection', ()=>{
    console.log("클라이언트 접속")

})

server.listen(port, host, ()=>{
    console.log("서버 열렸어용")
}) // 대기모드를 유지하기 위해서 인자값을 채워줘야 함
