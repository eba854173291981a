const dgram = require('@farsock/client').host('lab-a').dgram;
let socket = dgram.createSocket('udp4');
socket.bind(3000,'localhost',function () {
    console.log('bind 3000....');
});

socket.on('message',function (msg,rinfo) {
    console.log(msg.toString());
});
